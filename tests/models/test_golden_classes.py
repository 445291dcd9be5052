"""Which classes of transformers fit: a new version of it shows here what moved. tests/support/golden_classes.py."""

import json

import pytest
from golden_classes import CLASSES, FITS, GOLDEN, found

# One of each way to fit, and of each reason not to; the whole list takes minutes.
SAMPLE = ["cohere", "gpt2", "jamba", "deepseek_v3", "gemma4_text", "bloom", "bert", "gemma3", "blt"]
GOLDEN_RESULTS = json.loads(GOLDEN.read_text())


def test_every_causal_class_is_in_the_list_and_most_of_them_fit():
    assert GOLDEN_RESULTS.keys() == CLASSES.keys()
    assert sum(result == FITS for result in GOLDEN_RESULTS.values()) >= 110


@pytest.mark.parametrize(
    "model_type",
    [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.nightly) for name in GOLDEN_RESULTS],
)
def test_a_class_fits_or_does_not_as_before(model_type):
    assert found(model_type) == GOLDEN_RESULTS[model_type]
