"""The private parts of gptqmodel that drop_ray/quantization/ stands on, in one process: it changes its own."""

import importlib.util

import gptqmodel_canaries
import pytest
from canaries import checks_of, run_apart

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")


@pytest.fixture(scope="module")
def failed():
    return run_apart(gptqmodel_canaries.__file__)


@pytest.mark.parametrize("check", checks_of(gptqmodel_canaries))
def test_it_is_what_is_expected(failed, check):
    assert check not in failed, failed[check]
