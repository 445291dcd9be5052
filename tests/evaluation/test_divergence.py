"""Numbers of tokens and panels: exact small cases, properties of divergences, and what rounding must not do."""

import math

import numpy as np
import pytest
import torch

from drop_ray.evaluation.divergence.comparison import Comparison, compare, predictions_of
from drop_ray.evaluation.divergence.panel import kl_difference, panel_of


def compared(base, variant, targets=None):
    base, variant = torch.as_tensor(base), torch.as_tensor(variant)
    targets = torch.zeros(len(base), dtype=torch.long) if targets is None else torch.tensor(targets)
    return compare(predictions_of(base), variant, targets)


def test_two_tokens_by_hand():
    found = compared(
        torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]])), torch.log(torch.tensor([[0.25, 0.75], [0.2, 0.8]])), [1, 0]
    )
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.9 * math.log(4.5) + 0.1 * math.log(1 / 8)]
    np.testing.assert_allclose(found.kl, expected, rtol=1e-6)
    np.testing.assert_allclose(found.base_nll, [math.log(2), -math.log(0.9)], rtol=1e-6)
    np.testing.assert_allclose(found.variant_nll, [-math.log(0.75), -math.log(0.2)], rtol=1e-6)
    np.testing.assert_allclose(found.acceptance, [0.75, 0.3], rtol=1e-6)
    assert found.agreed.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_equals_the_textbook_formula_in_float64(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    base, variant = ((torch.randn(40, 500, generator=generator) * scale).to(dtype) for _ in range(2))
    found = compared(base, variant, [7] * 40)
    log_p, log_q = (
        x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (base.double().numpy(), variant.double().numpy())
    )
    np.testing.assert_allclose(found.kl, (np.exp(log_p) * (log_p - log_q)).sum(1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.acceptance, np.exp(np.minimum(log_p, log_q)).sum(1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.variant_nll - found.base_nll, (log_p - log_q)[:, 7], rtol=1e-9, atol=1e-12)


def test_equal_logits_give_exactly_nothing():
    logits = torch.randn(30, 1000, generator=torch.Generator().manual_seed(1)) * 10
    found = compared(logits, logits.clone())
    assert (found.kl == 0).all()
    assert (found.acceptance == 1).all()
    assert (found.agreed == 1).all()


@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1e-3])
def test_it_is_never_negative_however_small(noise):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(50, 1000, generator=generator, dtype=torch.float64) * 10
    found = compared(logits, logits + torch.randn(50, 1000, generator=generator, dtype=torch.float64) * noise)
    assert (found.kl >= 0).all()
    assert found.kl.mean() < max(noise**2, 1e-14)


def test_a_constant_added_to_all_logits_changes_nothing():
    logits = torch.randn(20, 300, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert compared(logits, logits + 1000).kl.max() < 1e-15


def test_predictions_that_are_certain_of_different_tokens_stay_finite():
    found = compared([[1e4, 0.0], [1e4, 0.0]], [[0.0, 1e4], [1e4, 0.0]])
    assert found.kl.tolist() == [1e4, 0.0]
    assert found.acceptance.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_shows(value):
    logits = torch.zeros(2, 3)
    broken = logits.clone()
    broken[1, 0] = value
    found = compared(logits, broken)
    assert np.isfinite(found.base_nll).all()
    assert np.isfinite(found.kl).tolist() == [True, False]


def comparison(kl, base_nll=None, variant_nll=None):
    kl = np.array(kl, dtype=np.float64)
    zero = np.zeros_like(kl)
    return Comparison(
        kl, zero if base_nll is None else base_nll, zero if variant_nll is None else variant_nll, zero, zero
    )


def test_a_panel_by_hand():
    kl = np.array([[1.0, 2.0], [3.0, 6.0]])
    ratio = np.array([[0.5, 0.5], [1.5, -0.5]])
    agreed, acceptance = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[0.9, 0.8], [0.7, 0.6]])
    panel = panel_of(kl, np.ones((2, 2)), 1 + ratio, agreed, acceptance)
    assert (panel.tokens, panel.samples, panel.kl, panel.kl_median, panel.kl_max) == (4, 2, 3.0, 2.5, 6.0)
    assert panel.kl_stderr == pytest.approx(math.sqrt(((1.5 - 3) ** 2 + (4.5 - 3) ** 2) / 2))
    assert panel.kl_p90 == pytest.approx(3 + 0.7 * 3)  # the order statistic 0.9 * 3 = 2.7
    assert (panel.top1_agreement, panel.acceptance) == (0.75, pytest.approx(0.75))
    assert panel.log_perplexity_ratio == pytest.approx(0.5)
    assert panel.log_perplexity_ratio_stderr == 0.0  # both samples differ from the base by 0.5


def test_percentiles_are_in_order_and_within_the_values():
    kl = np.random.default_rng(0).exponential(size=(8, 500))
    panel = panel_of(*comparison(kl))
    order = [panel.kl_median, panel.kl_p90, panel.kl_p95, panel.kl_p99, panel.kl_p999, panel.kl_max]
    assert order == sorted(order)
    assert panel.kl_max == kl.max()
    assert (kl > panel.kl_p99).mean() == pytest.approx(0.01)


@pytest.mark.parametrize("shape", [(1, 5), (3, 0), (4,)])
def test_a_panel_takes_two_samples(shape):
    with pytest.raises(ValueError, match="a panel takes"):
        panel_of(*comparison(np.zeros(shape)))


def test_variants_are_paired_by_sample():
    """The text makes most of the variance of each, and none of their difference."""
    one, other = {0: 1.0, 1: 9.0, 2: 5.0}, {0: 0.9, 1: 8.7, 2: 4.8}
    found = kl_difference(one, other)
    assert found.value == pytest.approx(0.2)
    assert found.stderr == pytest.approx(0.1 / math.sqrt(3))
    assert found.standard_errors == pytest.approx(2 * math.sqrt(3))
    assert kl_difference(other, one).value == pytest.approx(-0.2)
    assert kl_difference(one, one).standard_errors == 0


def test_variants_of_different_texts_are_not_paired():
    with pytest.raises(ValueError, match="not the same samples"):
        kl_difference({0: 1.0, 1: 2.0}, {0: 1.0, 2: 2.0})
