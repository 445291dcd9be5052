"""Small models, made once and shared by every test that needs one."""

import os
from uuid import uuid4

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import pytest
import tiny_models

# Fixtures that start Ray.
CLUSTERS = {"local_ray", "cluster"}


def pytest_itemcollected(item):
    """What runs by night only is no part of `make test` either, and whoever starts Ray has the machine alone."""
    if item.get_closest_marker("nightly"):
        item.add_marker("full")
    if CLUSTERS & {*item.fixturenames}:
        item.add_marker("alone")


@pytest.fixture(scope="session", params=tiny_models.ARCHITECTURES)
def family_folder(request, tmp_path_factory):
    """A tiny float32 checkpoint of each architecture, in shards, with a tokenizer."""
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp("llama_single"))


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server with the bucket `artifacts`, which the environment of this process names as its endpoint."""
    import boto3
    from s3_server import S3Server  # moto takes a second to import

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
def s3_url(s3_server):
    yield f"s3://artifacts/{uuid4().hex}"
    s3_server.fault = None
