"""S3 that is out of reach for a while, or answers and is not heard: waited out, and only as long as asked for."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from s3_server import Application, S3Server, answer
from tcp_proxy import TcpProxy

from drop_ray.errors import StoreOutageError, StoreRefusedError
from drop_ray.store import Step, open_store, s3, s3_connection
from drop_ray.store.outages import Outages

BUSY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@pytest.fixture
def proxy(s3_server: S3Server, s3_url: str) -> Iterator[TcpProxy]:
    proxy = TcpProxy(s3_server.url)
    yield proxy
    proxy.cut()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_connection, "FIRST_PAUSE_S", 0.001)


def test_a_cut_connection_is_waited_for_and_reported_once(
    proxy: TcpProxy,
    s3_url: str,
    step: Step,
    scores: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outages = Outages()  # what other tests have left waiting does not count here
    monkeypatch.setattr(s3_connection, "OUTAGES", outages)
    store = open_store(s3_url, {"endpoint_url": proxy.url})
    store.check_writable()
    seen: list[bool] = []

    def restore_once_it_is_reported(is_out: bool) -> None:
        seen.append(is_out)
        if is_out:
            Timer(1, proxy.restore).start()

    outages.watch(restore_once_it_is_reported)
    proxy.cut()
    with caplog.at_level(logging.WARNING):
        commit = store.commit(step, {"scores.bin": scores}, provenance={})
    assert store.find(step) == commit
    first, last = (record.getMessage() for record in caplog.records if record.name == s3_connection.__name__)
    assert first.startswith("S3 is out of reach (Could not connect to the endpoint URL")
    assert re.search(r"trying again for 1[12]\d s$", first)
    assert last == "S3 answers again"
    assert seen == [False, True, False]


def test_a_process_is_without_s3_until_all_its_connections_are_back() -> None:
    outages = Outages()
    outages.began()
    seen: list[bool] = []
    outages.watch(seen.append)
    outages.began()
    outages.ended()
    outages.ended()
    assert seen == [True, True, True, False]


def test_an_outage_that_lasts_too_long_ends_in_an_error_that_names_the_setting(proxy: TcpProxy, s3_url: str) -> None:
    store = open_store(s3_url, {"endpoint_url": proxy.url, "outage_s": 0.5})
    proxy.cut()
    started = time.monotonic()
    with pytest.raises(StoreOutageError, match=r"execution\.store_outage_s\): Could not connect"):
        store.read_file("runs/a/config.yaml")
    assert time.monotonic() - started < 10
    with pytest.raises(StoreOutageError, match=r"store: .*not writable: S3 was out of reach.*check AWS_ENDPOINT_URL"):
        store.check_writable()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_a_refusal_is_not_tried_again(s3_server: S3Server, s3_url: str, code: str) -> None:
    requests = []

    def refuse(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        requests.append(environ["PATH_INFO"])
        return answer(start_response, "403 Forbidden", f"<Error><Code>{code}</Code></Error>".encode())

    s3_server.fault = refuse
    with pytest.raises(StoreRefusedError):
        open_store(s3_url).read_file("runs/a/config.yaml")
    assert len(requests) == 1


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "429 Too Many Requests"])
def test_a_busy_service_is_asked_again(s3_server: S3Server, s3_url: str, no_pauses: None, status: str) -> None:
    store = open_store(s3_url)
    store.write_file("runs/a/config.yaml", b"name: a")
    failures = []

    def be_busy(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if len(failures) < 8:
            failures.append(environ["PATH_INFO"])
            return answer(start_response, status, BUSY)
        return moto(environ, start_response)

    s3_server.fault = be_busy
    assert store.read_file("runs/a/config.yaml") == b"name: a"
    assert len(failures) == 8


def test_an_outage_begins_with_a_failure_however_long_that_took(
    s3_server: S3Server, s3_url: str, no_pauses: None
) -> None:
    store = open_store(s3_url, {"outage_s": 0.5})
    store.write_file("runs/a/config.yaml", b"name: a")
    failures = []

    def fail_slowly(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if failures:
            return moto(environ, start_response)
        failures.append(environ["PATH_INFO"])
        time.sleep(1)
        return answer(start_response, "503 Slow Down", BUSY)

    s3_server.fault = fail_slowly
    assert store.read_file("runs/a/config.yaml") == b"name: a"
    assert len(failures) == 1


def test_without_patience_the_first_failure_is_the_last(s3_server: S3Server, s3_url: str) -> None:
    requests = []

    def be_busy(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        requests.append(environ["PATH_INFO"])
        return answer(start_response, "503 Slow Down", BUSY)

    s3_server.fault = be_busy
    with pytest.raises(StoreOutageError, match=r"out of reach for 0 s"):
        open_store(s3_url, {"outage_s": 0.0}).read_file("runs/a/config.yaml")
    assert len(requests) == 1


def test_an_answer_that_breaks_off_is_read_again(s3_server: S3Server, s3_url: str, no_pauses: None) -> None:
    store = open_store(s3_url)
    store.write_file("runs/a/large", bytes(range(256)) * 4096)
    broken = []

    def break_off(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "GET" or len(broken) == 7:
            return moto(environ, start_response)
        broken.append(True)
        start_response("200 OK", [("Content-Length", str(256 * 4096))])
        return [b"only the beginning"]

    s3_server.fault = break_off
    assert store.read_file("runs/a/large") == bytes(range(256)) * 4096
    assert len(broken) == 7


def test_a_create_whose_answer_was_lost_has_won(s3_server: S3Server, s3_url: str, no_pauses: None) -> None:
    files = open_store(s3_url).files
    s3_server.fault = _lose_first("PUT")
    assert files.create("artifacts/x/commit.json", b"mine")
    assert not files.create("artifacts/x/commit.json", b"another's")
    assert files.read("artifacts/x/commit.json") == b"mine"


def test_an_upload_in_parts_whose_last_answer_was_lost_is_there(
    s3_server: S3Server, s3_url: str, no_pauses: None, step: Step, tmp_path: Path
) -> None:
    large = _large_file(tmp_path)
    s3_server.fault = _lose_first("POST", "uploadId=")
    store = open_store(s3_url)
    commit = store.commit(step, {"large": large}, provenance={})
    with (tmp_path / "copy").open("wb") as target:
        store.download(commit, "large", target)
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert store.files.uploads() == []


def test_an_upload_in_parts_that_fails_leaves_no_parts(
    s3_server: S3Server, s3_url: str, step: Step, tmp_path: Path
) -> None:
    def refuse_parts(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if "partNumber=2" in environ["QUERY_STRING"]:
            return answer(start_response, "403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")
        return moto(environ, start_response)

    s3_server.fault = refuse_parts
    store = open_store(s3_url)
    with pytest.raises(StoreRefusedError):
        store.commit(step, {"large": _large_file(tmp_path)}, provenance={})
    assert store.files.uploads() == []
    assert store.size("") == 0


def test_parts_are_few_enough_for_the_largest_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    class Connection:
        def put_file(self, *_: str, **options: Any) -> None:
            asked.update(options)

    monkeypatch.setattr(s3, "connect", lambda options: Connection())
    sparse = tmp_path / "large"
    with sparse.open("wb") as file:
        file.truncate(5 << 40)
    s3.S3Files("bucket", {})._put(sparse, "large")
    assert asked["chunksize"] * s3.MAX_PARTS >= 5 << 40
    assert asked["chunksize"] <= 5 << 30


def test_settings_of_the_client_are_added_to_those_made_here(s3_url: str) -> None:
    connection = s3_connection.connect({"config_kwargs": {"s3": {"addressing_style": "path"}, "read_timeout": 7}})
    assert connection.config_kwargs["s3"] == {"addressing_style": "path"}
    assert connection.config_kwargs["read_timeout"] == 7
    assert connection.config_kwargs["connect_timeout"] == s3_connection.CLIENT_OPTIONS["connect_timeout"]


def _large_file(folder: Path) -> Path:
    """Of three parts."""
    path = folder / "large"
    path.write_bytes(bytes(range(256)) * (2 * s3.PART_BYTES // 256) + b"and a little")
    return path


def _lose_first(method: str, query: str = "") -> Any:
    """The first such request is carried out, and its answer lost."""
    lost = []

    def fault(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if lost or environ["REQUEST_METHOD"] != method or query not in environ["QUERY_STRING"]:
            return moto(environ, start_response)
        lost.append(b"".join(moto(environ, lambda *_: None)))
        return answer(start_response, "500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>")

    return fault
