"""A store on a local folder and on an S3 server; every behaviour test runs on both."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from store_s3_server import S3Server

from drop_ray.store import Step, Store, open_store


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    environment = pytest.MonkeyPatch()
    server = S3Server()
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        environment.delenv(variable)
    environment.setenv("AWS_ACCESS_KEY_ID", "test")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_ENDPOINT_URL", server.url)
    boto3.client("s3").create_bucket(Bucket="artifacts")
    yield server
    environment.undo()
    server.stop()


@pytest.fixture
def s3_url(s3_server: S3Server) -> Iterator[str]:
    yield f"s3://artifacts/{uuid4().hex}"
    s3_server.fault = None


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_url")


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture
def step() -> Step:
    return Step("score", {"model": "3f2a", "samples": (0, 16), "algorithm": 1})


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.bin"
    path.write_bytes(bytes(range(256)) * 40)
    return path
