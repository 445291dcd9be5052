"""Gamma: the paper's tables, its interval, and when there is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.serving.ratios import Ratio, paired_ratio
from drop_ray.serving.sdr import NORMAL_975, estimate_gamma, sdr

# He et al., arXiv 2406.15786: (average of the base, [(plan, average, speedup, gamma)]).
PUBLISHED = {
    "Llama-2-13B": (
        68.2,
        [
            *(("Block-4", 65.8, 1.11, 0.22), ("Block-8", 60.7, 1.24, 0.31)),
            *(("MLP-4", 66.9, 1.04, 0.32), ("MLP-8", 61.9, 1.08, 0.79)),
            *(("Attn-4", 68.5, 1.05, -0.05), ("Attn-8", 68.1, 1.13, 0.01)),
            *(("Attn-16", 66.1, 1.29, 0.07), ("Attn-20", 64.9, 1.40, 0.08)),
        ],
    ),
    "Mistral-7B": (
        70.3,
        [
            *(("Block-4", 67.1, 1.14, 0.23), ("Block-8", 58.6, 1.32, 0.37)),
            *(("MLP-4", 66.9, 1.03, 1.13), ("MLP-8", 53.4, 1.06, 2.82)),
            *(("Attn-4", 69.9, 1.10, 0.04), ("Attn-8", 69.8, 1.23, 0.02), ("Attn-12", 67.3, 1.40, 0.08)),
        ],
    ),
    "Llama-2-70B": (
        73.9,
        [
            *(("Block-4", 71.0, 1.07, 0.41), ("Block-8", 67.7, 1.14, 0.44)),
            *(("Block-16", 54.4, 1.30, 0.65), ("Block-32", 49.3, 1.67, 0.37)),
            *(("MLP-4", 73.2, 1.04, 0.18), ("MLP-8", 72.5, 1.05, 0.28)),
            *(("MLP-16", 65.9, 1.08, 1.00), ("MLP-32", 55.7, 1.17, 1.07)),
            *(("Attn-4", 73.8, 1.06, 0.02), ("Attn-8", 73.7, 1.12, 0.02)),
            *(("Attn-16", 73.8, 1.21, 0.00), ("Attn-32", 73.8, 1.35, 0.00)),
            *(("Attn-40", 71.5, 1.48, 0.05), ("Attn-48", 66.9, 1.62, 0.11)),
        ],
    ),
    "Llama-3-70B": (
        75.1,
        [
            *(("Attn-4", 75.2, 1.04, -0.03), ("Attn-8", 75.1, 1.10, 0.00)),
            *(("Attn-16", 75.0, 1.17, 0.01), ("Attn-32", 75.2, 1.35, 0.00)),
            *(("Attn-40", 73.3, 1.43, 0.00), ("Attn-48", 71.0, 1.55, 0.07)),
        ],
    ),
}
ROWS = [(model, base, *row) for model, (base, rows) in PUBLISHED.items() for row in rows]
MISPRINT = ("Llama-3-70B", "Attn-40")
LOSSES, ERRORS = st.floats(-20, 20), st.floats(0.01, 5)


@st.composite
def speedups(draw) -> Ratio:
    """Whose interval lies above 1, lopsided or not."""
    low, more, most = (draw(st.floats(0.001, 1)) for _ in range(3))
    return Ratio(1 + low + more, 1 + low, 1 + low + more + most, 5)


@pytest.mark.parametrize(("model", "base", "plan", "average", "speedup", "gamma"), ROWS)
def test_gamma_is_the_papers(model: str, base: float, plan: str, average: float, speedup: float, gamma: float) -> None:
    if (model, plan) == MISPRINT:
        assert sdr(base - average, speedup) == pytest.approx(0.042, abs=0.001)
    else:
        assert sdr(base - average, speedup) == pytest.approx(gamma, abs=0.011)


def test_gamma_without_a_speedup_is_refused() -> None:
    with pytest.raises(ValueError, match="without a speedup"):
        sdr(1.0, 1.0)


@pytest.mark.parametrize(
    ("low", "value", "high"), [(0.99, 1.01, 1.03), (1.0, 1.001, 1.002), (0.998, 0.999, 1.0), (0.9, 1.0, 1.1)]
)
def test_gamma_is_undefined_where_the_speedup_may_be_none(low: float, value: float, high: float) -> None:
    gamma = estimate_gamma(2.0, 0.5, Ratio(value, low, high, 5))
    assert (gamma.value, gamma.low, gamma.high) == (None, None, None)
    assert gamma.why == "undefined: the speedup's interval contains 1"


def test_gamma_of_a_slower_plan_is_undefined_and_no_negative_loss() -> None:
    gamma = estimate_gamma(2.0, 0.5, Ratio(0.9, 0.85, 0.95, 5))
    assert (gamma.value, gamma.why) == (None, "undefined: the variant is slower")


@pytest.mark.parametrize("stderr", [None, math.nan, math.inf])
def test_gamma_has_no_interval_without_a_standard_error(stderr: float | None) -> None:
    gamma = estimate_gamma(2.0, stderr, Ratio(1.1, 1.05, 1.15, 5))
    assert (gamma.low, gamma.high) == (None, None)
    assert gamma.value == pytest.approx(0.2)


@pytest.mark.parametrize("lost", [-3.0, 0.0, 2.0])
def test_of_an_exact_speedup_the_interval_is_that_of_the_loss(lost: float) -> None:
    gamma = estimate_gamma(lost, 0.5, Ratio(1.2, 1.2, 1.2, 5))
    limits = (lost - NORMAL_975 * 0.5) / 20, (lost + NORMAL_975 * 0.5) / 20
    assert (gamma.low, gamma.high) == pytest.approx(limits)


def test_of_an_exact_loss_the_interval_is_that_of_the_speedup_lopsided_as_it_is() -> None:
    gamma = estimate_gamma(3.0, 0.0, Ratio(1.2, 1.15, 1.3, 5))
    assert (gamma.low, gamma.value, gamma.high) == pytest.approx((0.1, 0.15, 0.2))
    gain = estimate_gamma(-3.0, 0.0, Ratio(1.2, 1.15, 1.3, 5))
    assert (gain.low, gain.value, gain.high) == pytest.approx((-0.2, -0.15, -0.1))


@given(LOSSES, ERRORS, speedups())
def test_the_interval_holds_the_value_and_a_worse_plan_has_a_higher_one(
    lost: float, stderr: float, speedup: Ratio
) -> None:
    gamma, worse = estimate_gamma(lost, stderr, speedup), estimate_gamma(lost + 1, stderr, speedup)
    assert None not in (gamma.low, gamma.value, gamma.high, worse.low, worse.high)
    assert gamma.low < gamma.value < gamma.high
    assert gamma.low < worse.low
    assert gamma.high < worse.high


@given(LOSSES, ERRORS, speedups())
def test_zero_is_within_the_interval_just_where_the_loss_may_be_zero(
    lost: float, stderr: float, speedup: Ratio
) -> None:
    gamma = estimate_gamma(lost, stderr, speedup)
    assert gamma.low is not None
    assert gamma.high is not None
    assert (gamma.low > 0) == (lost > NORMAL_975 * stderr)
    assert (gamma.high < 0) == (lost < -NORMAL_975 * stderr)


@given(LOSSES, ERRORS, speedups())
def test_a_gain_mirrors_a_loss(lost: float, stderr: float, speedup: Ratio) -> None:
    gamma, mirrored = estimate_gamma(lost, stderr, speedup), estimate_gamma(-lost, stderr, speedup)
    assert (gamma.low, gamma.high) == (-mirrored.high, -mirrored.low)


@pytest.mark.parametrize(("lost", "speedup"), [(2.4, 1.48), (0.1, 1.3), (-0.5, 1.15), (8.0, 1.1)])
def test_intervals_cover_the_true_gamma_in_19_of_20_experiments(lost: float, speedup: float) -> None:
    chance = np.random.default_rng(1)
    runs, stderr, true = 2000, 0.5, sdr(lost, speedup)
    losses = chance.normal(lost, stderr, runs)
    pairs = speedup * chance.lognormal(0, 0.02, (runs, 5))
    gammas = [
        estimate_gamma(seen, stderr, paired_ratio([1.0] * 5, run))
        for seen, run in zip(losses.tolist(), pairs.tolist(), strict=True)
    ]
    defined = [gamma for gamma in gammas if gamma.low is not None and gamma.high is not None]
    assert len(defined) == runs
    covered = np.mean([gamma.low <= true <= gamma.high for gamma in defined])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
    assert covered < 0.99
