"""Opening a store and checking it: each way in which it cannot work is one error that names `store` and the remedy."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from s3_server import Application, S3Server, answer

from drop_ray.errors import UserError
from drop_ray.store import Step, Store, open_store


def test_a_usable_store_passes_the_check_and_nothing_is_left(store: Store) -> None:
    store.check_writable()
    store.check_writable()
    assert store.list("") == []


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/drop-ray"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"^store: .*is not writable.*name a folder"):
        open_store(str(tmp_path / folder)).check_writable()


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "s3://", "file:///tmp/x"])
def test_an_unknown_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"store: .*neither a local folder nor s3://"):
        open_store(url)


def test_options_for_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="endpoint_url"):
        open_store(str(tmp_path), {"endpoint_url": "http://localhost"})


def test_a_relative_folder_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("here")
    monkeypatch.chdir("/")
    store.write_file("runs/a/config.json", b"{}")
    assert (tmp_path / "here/runs/a/config.json").read_bytes() == b"{}"


def test_a_missing_bucket_is_named(s3_url: str) -> None:
    with pytest.raises(UserError, match=r"store: s3://absent-bucket/x/ .*create the bucket absent-bucket"):
        open_store("s3://absent-bucket/x").check_writable()


def test_missing_credentials_are_named(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    new_connection = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID"):
        open_store(s3_url, new_connection).check_writable()


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_missing_permission_is_named(s3_server: S3Server, s3_url: str, method: str) -> None:
    def deny(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != method:
            return moto(environ, start_response)
        return answer(start_response, "403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")

    s3_server.fault = deny
    with pytest.raises(UserError, match="grant s3:ListBucket"):
        open_store(s3_url).check_writable()


def test_a_server_that_ignores_the_condition_is_refused(s3_server: S3Server, s3_url: str) -> None:
    def drop_condition(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return moto(environ, start_response)

    s3_server.fault = drop_condition
    with pytest.raises(UserError, match="ignores If-None-Match"):
        open_store(s3_url).check_writable()


def test_a_server_that_does_not_name_the_failed_condition_is_understood(s3_server: S3Server, s3_url: str) -> None:
    def refuse_tersely(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        head: list[Any] = []
        body = b"".join(moto(environ, lambda *arguments: head.append(arguments)))
        if head[0][0].startswith("412"):
            return answer(start_response, "412 Precondition Failed", b"<Error><Code>PreconditionFailed</Code></Error>")
        start_response(*head[0])
        return [body]

    s3_server.fault = refuse_tersely
    open_store(s3_url).check_writable()


def test_a_record_whose_answer_was_lost_keeps_its_outputs(
    s3_server: S3Server, s3_url: str, step: Step, scores: Path
) -> None:
    lost = []

    def lose_first_answer(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT" or not environ["PATH_INFO"].endswith("commit.json") or lost:
            return moto(environ, start_response)
        lost.append(b"".join(moto(environ, lambda *_: None)))
        return answer(start_response, "500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>")

    s3_server.fault = lose_first_answer
    store = open_store(s3_url)
    commit = store.commit(step, {"scores.bin": scores}, provenance={})
    assert len(lost) == 1
    assert store.read_bytes(commit, "scores.bin") == scores.read_bytes()
    assert store.find(step) == commit


def test_files_of_another_process_are_seen_at_once(store: Store) -> None:
    store.write_file("runs/a/config.json", b"{}")
    assert store.list("runs/a") == ["config.json"]
    assert not store.exists("runs/a/report.md")
    # A fork, so that it has the parent's open connection, which it must not use.
    other = multiprocessing.get_context("fork").Process(target=store.write_file, args=("runs/a/report.md", b"report"))
    other.start()
    other.join(30)
    assert other.exitcode == 0
    assert store.list("runs/a") == ["config.json", "report.md"]
    assert store.exists("runs/a/report.md")
    assert store.size("runs/a") == len(b"{}") + len(b"report")


def test_files_of_a_run_are_replaced(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_bytes(b"second, longer")
    store.write_file("runs/a/report.html", b"first")
    store.write_file("runs/a/report.html", report)
    store.write_file("runs/a/plans/p.json", b"{}")
    assert store.read_file("runs/a/report.html") == b"second, longer"
    assert store.list("runs/a") == ["plans", "report.html"]
    assert store.size("runs/a") == len(b"second, longer") + len(b"{}")
    with pytest.raises(FileNotFoundError):
        store.read_file("runs/a/absent")


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_files_of_a_local_store_have_the_permissions_of_the_umask(
    umask: int, mode: int, tmp_path: Path, scores: Path, step: Step
) -> None:
    store = open_store(str(tmp_path / "store"))
    scores.chmod(0o666)
    before = os.umask(umask)
    try:
        store.write_file("runs/run/config.yaml", b"a")
        store.write_file("runs/run/report.html", scores)
        store.commit(step, {"scores.bin": scores}, provenance={})
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"config.yaml", "report.html", "scores.bin", "commit.json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
