"""The private parts of s3fs that drop_ray/store/s3fs_private.py stands on."""

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from canaries import canary, check_parameters
from fsspec.asyn import sync
from s3_server import S3Server, answer

from drop_ray.store.s3fs_private import Credentials, Request, RequestsOfS3, service_error

s3fs = partial(canary, "s3fs")
FILESYSTEM = "s3fs:S3FileSystem"


@pytest.fixture
def s3_server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server of its own: parts of uploads that another test has given up may still come to the shared one."""
    server = S3Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    boto3.client("s3", endpoint_url=server.url).create_bucket(Bucket="artifacts")
    yield server
    server.stop()


class Recorded(RequestsOfS3):
    """Counts requests, the bytes that each uploads, and files read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(use_listings_cache=False, **options)
        self.uploaded: list[int] = []
        self.requests: list[str] = []
        self.files_read = 0

    async def make_request(self, send: Any, body_bytes: int, request: Request) -> Any:
        self.uploaded.append(body_bytes)
        self.requests.append(str(request))
        return await send()

    async def read_file(self, fetch: Any) -> Any:
        self.files_read += 1
        return await fetch()


def test_every_request_goes_through_one_method(s3_server: S3Server, s3_url: str, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(13 << 20))
    with s3fs(f"{FILESYSTEM}._call_s3") as call:
        check_parameters(call, "self", "method")
        connection = Recorded(skip_instance_cache=True)
        seen = []

        def count(moto: Any, environ: Any, start_response: Any) -> Any:
            seen.append(int(environ.get("CONTENT_LENGTH") or 0))
            return moto(environ, start_response)

        s3_server.fault = count
        connection.pipe_file(f"{s3_url}/small", b"12345")
        assert connection.uploaded == [5]
        assert connection.requests == [f"put_object of {s3_url}/small"]
        connection.put_file(str(file), f"{s3_url}/large", chunksize=6 << 20, max_concurrency=2)
        assert sorted(size for size in connection.uploaded if size > 1000) == [1 << 20, 6 << 20, 6 << 20]
        connection.find(s3_url)
        connection.call("list_multipart_uploads", Bucket="artifacts")
        connection.rm_file(f"{s3_url}/large")
        assert len(connection.uploaded) == len(seen)


def test_files_are_read_to_the_end_by_one_method(s3_url: str) -> None:
    with s3fs(f"{FILESYSTEM}._cat_file") as cat_file:
        check_parameters(cat_file, "self", "path")
        assert {"start", "end", "max_concurrency"} <= inspect.signature(cat_file).parameters.keys()
        connection = Recorded(skip_instance_cache=True)
        connection.pipe_file(f"{s3_url}/small", b"12345")
        connection.uploaded.clear()
        assert connection.cat_file(f"{s3_url}/small", max_concurrency=1) == b"12345"
        assert connection.cat_file(f"{s3_url}/small", start=1, end=3) == b"23"
        assert (connection.files_read, len(connection.uploaded)) == (2, 2)


def test_s3fs_itself_tries_once(s3_server: S3Server, s3_url: str) -> None:
    with s3fs(f"{FILESYSTEM}.retries") as retries:
        assert retries > 1
        once = {"retries": {"total_max_attempts": 1}}  # of botocore
        connection = Recorded(skip_instance_cache=True, config_kwargs=once)
        seen = []

        def fail(moto: Any, environ: Any, start_response: Any) -> Any:
            seen.append(environ["PATH_INFO"])
            return answer(start_response, "503 Slow Down", b"<Error><Code>SlowDown</Code></Error>")

        s3_server.fault = fail
        with pytest.raises(OSError, match="SlowDown"):
            connection.call("list_objects_v2", Bucket="artifacts")
        assert len(seen) == 1


@pytest.mark.parametrize(("code", "kind"), [("NoSuchKey", FileNotFoundError), ("SlowDown", OSError), ("New", OSError)])
def test_an_answer_is_the_cause_of_the_error_that_is_raised(code: str, kind: type[Exception]) -> None:
    with s3fs("s3fs.errors:translate_boto_error") as translate:
        check_parameters(translate, "error")
        cause = ClientError({"Error": {"Code": code}}, "GetObject")
        error = translate(cause)
        assert isinstance(error, kind)
        assert service_error(error) is cause


def test_a_session_made_anew_finds_other_credentials(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3fs(f"{FILESYSTEM}.set_session") as set_session:
        check_parameters(set_session, "self", "refresh")
        connection = Recorded(skip_instance_cache=True)
        before = sync(connection.loop, connection.current_credentials)
        assert before == Credentials("env", ("test", None))
        monkeypatch.setenv("AWS_SESSION_TOKEN", "newer")
        sync(connection.loop, connection.find_credentials_anew)
        assert sync(connection.loop, connection.current_credentials) == Credentials("env", ("test", "newer"))
        connection.call("list_objects_v2", Bucket="artifacts")
        given = Recorded(skip_instance_cache=True, key="given", secret="s", token="t")
        assert sync(given.loop, given.current_credentials) == Credentials("explicit", ("given", "t"))


def test_what_is_called_in_the_event_loop_is_awaited_outside() -> None:
    with canary("fsspec", "fsspec.asyn:sync") as found:
        check_parameters(found, "loop", "func")

        async def answer() -> str:
            return "answer"

        assert found(Recorded(skip_instance_cache=True).loop, answer) == "answer"
