"""Peak memory of a refit does not follow the number of layers: the benchmark on a smaller model."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.full
def test_twice_the_layers_take_hardly_more_memory(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("refit_memory", BENCHMARKS / "refit_memory.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    (small, peak), (large, peak_of_twice) = (benchmark.peak_of(768, num_layers) for num_layers in (8, 16))
    assert large > 1.8 * small
    assert peak_of_twice < 1.1 * peak
