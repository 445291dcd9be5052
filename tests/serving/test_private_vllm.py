"""The private parts of vLLM that drop_ray/serving/ stands on, all looked at in one process: importing it takes long."""

import pytest
import vllm_canaries
from canaries import checks_of, run_apart
from installed import needs_vllm

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def failed():
    return run_apart(vllm_canaries.__file__)


@pytest.mark.parametrize("check", checks_of(vllm_canaries))
def test_it_is_what_is_expected(failed, check):
    assert check not in failed, failed[check]
