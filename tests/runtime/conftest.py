"""One local Ray for all tests that need one: starting it takes longer than most of them."""

from pathlib import Path

import pytest
import ray
import tiny_run
from processes import SUPPORT, with_folders


@pytest.fixture(scope="session")
def local_ray():
    # Workers unpickle actor classes that test files define.
    environment = {"env_vars": with_folders(Path(__file__).parent, SUPPORT)}
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def make_config(inputs, local_ray, tmp_path):
    return lambda store="store", **fields: tiny_run.config_of(inputs, tmp_path / store, **fields)
