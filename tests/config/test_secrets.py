"""Credentials in a config: at hand for S3, and in nothing that is made of the config."""

import json
import logging
import pickle

import pytest
import yaml

from drop_ray.cli import main
from drop_ray.config import load_config, parse_config
from drop_ray.config.secrets import masked, secret_options
from drop_ray.errors import UserError

PLANTED = "planted-7f3a"
OPTIONS = {
    "endpoint_url": "https://minio.example.org:9000",
    "key": PLANTED,
    "secret": PLANTED,
    "token": PLANTED,
    "username": PLANTED,
    "password": 7,
    "anon": False,
    "client_kwargs": {
        "region_name": "eu-central-1",
        "aws_access_key_id": PLANTED,
        "aws_secret_access_key": PLANTED,
        "aws_session_token": PLANTED,
    },
    "config_kwargs": {
        "connect_timeout": 5,
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "proxies": {"https": f"http://user:{PLANTED}@proxy:3128"},
        "retries": {"mode": "standard"},
    },
    "s3_additional_kwargs": {"SSECustomerKey": PLANTED, "Metadata": [PLANTED, {"deep": [PLANTED]}]},
    "session": object(),
}


def values(**options):
    return {
        "name": "run",
        "model": {"path": "m"},
        "calibration": {"source": "c.txt"},
        "store": "s3://bucket/prefix",
        "execution": {"store_options": options},
    }


def test_everything_but_what_is_known_to_be_harmless_is_masked():
    assert masked(OPTIONS) == {
        "endpoint_url": "https://minio.example.org:9000",
        **dict.fromkeys(("key", "secret", "token", "username", "password", "session"), "***"),
        "anon": False,
        "client_kwargs": {
            "region_name": "eu-central-1",
            **dict.fromkeys(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), "***"),
        },
        "config_kwargs": {
            "connect_timeout": 5,
            "signature_version": "s3v4",
            "s3": {"addressing_style": "path"},
            "proxies": {"https": "***"},
            "retries": {"mode": "standard"},
        },
        "s3_additional_kwargs": {"SSECustomerKey": "***", "Metadata": ["***", {"deep": ["***"]}]},
    }


def test_a_config_holds_its_secrets_and_shows_them_nowhere():
    config = parse_config(values(**OPTIONS), "test")
    assert config.s3_options(config.store)["secret"] == PLANTED
    for text in (config.to_yaml(), json.dumps(config.model_dump(mode="json")), repr(config), str(config.execution)):
        assert PLANTED not in text
    without = {key: value for key, value in OPTIONS.items() if key != "session"}
    sent = pickle.loads(pickle.dumps(parse_config(values(**without), "test")))
    assert sent.s3_options(sent.store)["client_kwargs"] == OPTIONS["client_kwargs"]


def test_the_written_config_says_that_something_is_missing_and_cannot_be_run_with_the_mask(tmp_path):
    (tmp_path / "config.yaml").write_text(parse_config(values(key=PLANTED), "test").to_yaml())
    with pytest.raises(UserError, match="execution.store_options: `key` is masked, .*; leave it out, and give cred"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("url", [f"https://me:{PLANTED}@minio:9000", f"https://minio:9000/?token={PLANTED}"])
@pytest.mark.parametrize("nested", [False, True])
def test_an_endpoint_with_credentials_is_refused_since_errors_name_it(url, nested):
    options = {"client_kwargs": {"endpoint_url": url}} if nested else {"endpoint_url": url}
    with pytest.raises(UserError, match="endpoint_url` has a user name, a password or a query") as caught:
        parse_config(values(**options), "test")
    assert PLANTED not in str(caught.value)


def test_credentials_are_told_from_other_options():
    assert secret_options(OPTIONS) == [
        "key",
        "secret",
        "token",
        "password",
        *(f"client_kwargs.{name}" for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")),
        "config_kwargs.proxies.https",
        "s3_additional_kwargs.SSECustomerKey",
    ]
    assert secret_options({"endpoint_url": "https://minio:9000", "anon": True, "profile": "team"}) == []


def test_a_line_that_is_not_yaml_is_named_and_not_quoted(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values()) + f"oops: [secret: {PLANTED}\nb: '")
    with pytest.raises(UserError, match=r"run.yaml is not YAML: .* in line \d+, column \d+$"):
        load_config(path)
    path.write_text(yaml.safe_dump(values()))
    with pytest.raises(UserError, match="--set execution.store_options.secret: the value is not YAML: ") as caught:
        load_config(path, [f"execution.store_options.secret=[{PLANTED}"])
    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_headers_of_requests_are_never_logged(flags, capsys):
    """botocore.auth and botocore.endpoint write them, session tokens among them, when they debug."""
    before = {name: logging.getLogger(name).level for name in ("", "botocore", "aiobotocore", "drop_ray")}
    try:
        assert main([*flags, "schema"]) == 0
        for library in ("botocore.auth", "botocore.endpoint", "aiobotocore.endpoint"):
            assert not logging.getLogger(library).isEnabledFor(logging.DEBUG)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    capsys.readouterr()
