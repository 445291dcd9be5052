"""A store on a local folder and on an S3 server; every behaviour test runs on both."""

from pathlib import Path

import pytest

from drop_ray.store import Step, Store, open_store


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
