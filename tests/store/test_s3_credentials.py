"""Credentials that expire under a run: it goes on with newer ones, wherever they come from, or says that it has none.

A server that takes a token for a few requests only stands for hours.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_server import Application, S3Server, answer

from drop_ray.errors import StoreRefusedError
from drop_ray.store import Step, Store, open_store, s3_connection

LIFE = 4
"""Requests for which a token is good."""


class Issuer:
    """Gives out tokens `T1`, `T2`, ... and lets the server refuse those that were used too often."""

    def __init__(self, server: S3Server) -> None:
        self.issued = 0
        self._uses: dict[str, int] = {}
        self.answers: dict[str, Any] = {}
        server.fault = self._check

    def credentials(self) -> dict[str, str]:
        self.issued += 1
        ends = datetime.now(UTC) + timedelta(hours=6)
        return {
            "AccessKeyId": f"K{self.issued}",
            "SecretAccessKey": "s",
            "Token": f"T{self.issued}",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _check(self, moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        given = self.answers.get(environ["PATH_INFO"])
        if given is not None:
            return answer(start_response, "200 OK", given() if callable(given) else given)
        token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "none")
        self._uses[token] = self._uses.get(token, 0) + 1
        if token == "none" or self._uses[token] > LIFE:
            return answer(start_response, "400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>")
        return moto(environ, start_response)


@pytest.fixture
def issuer(s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Issuer]:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(s3_connection, "FIRST_PAUSE_S", 0.01)
    # Connections are kept from test to test, and with them their credentials.
    s3_connection.S3Connection.clear_instance_cache()
    yield Issuer(s3_server)
    s3_connection.S3Connection.clear_instance_cache()


def profile(issuer: Issuer, folder: Path, _: pytest.MonkeyPatch) -> None:
    """A file that somebody keeps fresh: the next token is there before the service ends the last."""
    values = issuer.credentials()
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id = {values['AccessKeyId']}\naws_secret_access_key = s\n"
        f"aws_session_token = {values['Token']}\n"
    )


def process(issuer: Issuer, folder: Path, _: pytest.MonkeyPatch) -> None:
    counter = folder / "count"
    script = folder / "issue.sh"
    script.write_text(
        f"#!/bin/sh\necho x >> {counter}\nn=$(wc -l < {counter})\n"
        'printf \'{"Version": 1, "AccessKeyId": "K%s", "SecretAccessKey": "s", "SessionToken": "T%s"}\' $n $n\n'
    )
    script.chmod(0o755)
    (folder / "config").write_text(f"[default]\ncredential_process = {script}\n")


def instance_role(issuer: Issuer, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role = "/latest/meta-data/iam/security-credentials/"
    issuer.answers["/latest/api/token"] = b"session"
    issuer.answers[role] = b"worker"
    issuer.answers[f"{role}worker"] = lambda: json.dumps({"Code": "Success", **issuer.credentials()}).encode()


def web_identity(issuer: Issuer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "web-token").write_text("signed")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "web-token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker")

    def assume() -> bytes:
        values = issuer.credentials()
        inner = re.sub("Token>", "SessionToken>", "".join(f"<{key}>{value}</{key}>" for key, value in values.items()))
        return (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<AssumeRoleWithWebIdentityResult><Credentials>{inner}</Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>"
        ).encode()

    issuer.answers["/"] = assume


SOURCES = {"process": process, "instance role": instance_role, "web identity": web_identity}


@pytest.mark.parametrize("source", SOURCES)
def test_a_run_outlives_its_credentials(
    issuer: Issuer, s3_server: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s3_server.url)
    SOURCES[source](issuer, tmp_path, monkeypatch)
    store = open_store(s3_url)
    for number in range(3 * LIFE):
        store.write_file(f"runs/a/{number}", b"x")
        assert store.read_file(f"runs/a/{number}") == b"x"


def test_a_profiles_file_is_read_again(
    issuer: Issuer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(issuer, tmp_path, monkeypatch)
    store = open_store(s3_url)
    for number in range(3 * LIFE):
        if number % LIFE == LIFE - 1:
            profile(issuer, tmp_path, monkeypatch)
        store.write_file(f"runs/a/{number}", b"x")


def test_a_file_that_is_not_kept_fresh_is_waited_for_and_then_named(
    issuer: Issuer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    profile(issuer, tmp_path, monkeypatch)
    store = open_store(s3_url, {"outage_s": 0.3})
    with pytest.raises(StoreRefusedError, match=r"the credentials have expired; renew them .*AWS_WEB_IDENTITY"):
        write_until_refused(store)
    assert "the credentials for S3 have expired; waiting for newer ones for 0 s" in caplog.text


def test_credentials_of_the_environment_are_not_waited_for(
    issuer: Issuer, s3_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"ACCESS_KEY_ID": "K", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": "T"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StoreRefusedError, match="the credentials have expired"):
        write_until_refused(open_store(s3_url, {"outage_s": 600.0}))
    assert "waiting" not in caplog.text


def write_until_refused(store: Store) -> None:
    for number in range(3 * LIFE):
        store.write_file(f"runs/a/{number}", b"x")


def test_requests_at_once_share_one_renewal(
    issuer: Issuer, s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch, step: Step, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s3_server.url)
    instance_role(issuer, tmp_path, monkeypatch)
    parts = tmp_path / "large"
    parts.write_bytes(bytes(1 << 20))
    monkeypatch.setattr("drop_ray.store.s3.PART_BYTES", 1 << 17)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    open_store(s3_url).commit(step, {"large": parts}, provenance={})
    # Eight parts at a time, of which half are refused together: as many renewals would be eight more.
    assert issuer.issued <= 5
