"""What S3 refuses, at every moment of a unit's commit: one error that says what and how to mend it, at once."""

import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from s3_server import Application, S3Server

from drop_ray.errors import StoreRefusedError
from drop_ray.store import Step, Store, open_store, s3
from drop_ray.store.s3_refusals import refusal

# (status, code of the answer's body, what the message says)
REFUSALS = [
    (403, "AccessDenied", "grant s3:ListBucket on artifacts"),
    (400, "ExpiredToken", "the credentials have expired; renew them"),
    (403, "RequestTimeTooSkewed", "behind the service's; set it by NTP"),
    (404, "NoSuchBucket", "there is no bucket artifacts, or no longer"),
    (507, "InsufficientStorage", "the storage is full; free some"),
]
FURTHER = [
    (403, "InvalidAccessKeyId", "the service does not know these credentials"),
    (403, "SignatureDoesNotMatch", "the service does not know these credentials"),
    (507, "XMinioStorageFull", "the storage is full; free some"),
    (403, "QuotaExceeded", "the storage is full; free some"),
    (301, "PermanentRedirect", "the bucket b is in another region; set AWS_DEFAULT_REGION"),
    (403, "RequestTimeTooSkewed", "differs from the service's; set it by NTP"),
    (403, "403", "grant s3:ListBucket on b"),
]
# (method, part of the query): the requests of a commit whose output is uploaded in parts, and of reading it again.
MOMENTS = {
    "look for the record": ("GET", ""),
    "begin an upload": ("POST", "uploads"),
    "upload a part": ("PUT", "partNumber=2"),
    "end an upload": ("POST", "uploadId="),
    "record": ("PUT", ""),
    "list": ("GET", "list-type"),
}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 1 << 16)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(bytes(3 << 16))
    return path


def refuse(server: S3Server, method: str, query: str, status: int, code: str) -> list[str]:
    """Answer such requests so from now on; a list to which they are added."""
    seen: list[str] = []

    def fault(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        text = environ["QUERY_STRING"]
        matches = query in text if query else not text or text == "x-id=GetObject"
        if environ["REQUEST_METHOD"] != method or not matches:
            return moto(environ, start_response)
        seen.append(environ["PATH_INFO"])
        body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        date = formatdate(time.time() + 7200, usegmt=True)
        head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Date", date)]
        start_response(f"{status} Refused", head)
        return [body]

    server.fault = fault
    return seen


def use(store: Store, step: Step, large: Path) -> None:
    """Everything that a worker and a driver do with a unit."""
    commit = store.commit(step, {"large": large}, provenance={})
    store.find(commit.step)


@pytest.mark.parametrize(("status", "code", "meaning"), REFUSALS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_refusal_is_one_clear_error_at_every_moment(
    s3_server: S3Server,
    s3_url: str,
    small_parts: None,
    step: Step,
    large: Path,
    moment: str,
    status: int,
    code: str,
    meaning: str,
) -> None:
    seen = refuse(s3_server, *MOMENTS[moment], status, code)
    store = open_store(s3_url)
    with pytest.raises(StoreRefusedError) as raised:
        use(store, step, large)
    assert len(set(seen)) == len(seen) == 1, "it was asked again"
    assert meaning in str(raised.value)
    assert f"of {s3_url}" in str(raised.value)
    assert code in str(raised.value)
    s3_server.fault = None
    assert store.files.uploads() == []


def refused(status: int, code: str) -> StoreRefusedError | None:
    """What becomes of an error of s3fs whose answer has that status and code."""
    error = OSError(code)
    response = {"Error": {"Code": code, "Message": "No."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = ClientError(response, "Any")
    return refusal(error, "b", "any of s3://b/k")


@pytest.mark.parametrize(("status", "code", "meaning"), FURTHER)
def test_codes_of_other_services_and_answers_without_a_body_are_understood(
    status: int, code: str, meaning: str
) -> None:
    text = str(refused(status, code))
    assert text.startswith(f"any of s3://b/k was refused ({code}: No): ")
    assert meaning in text


def test_missing_objects_and_lost_races_are_no_refusals() -> None:
    for status, code in ((404, "NoSuchKey"), (404, "404"), (412, "PreconditionFailed"), (404, "NoSuchUpload")):
        assert refused(status, code) is None
    assert refusal(OSError("connection reset"), "b", "any") is None


def test_missing_credentials_are_said_to_be_missing() -> None:
    assert "no credentials (Unable to locate credentials); set AWS_PROFILE" in str(
        refusal(NoCredentialsError(), "b", "any")
    )
