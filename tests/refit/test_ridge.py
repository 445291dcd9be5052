"""Ridge regression by sums: exact cases, a solution by other means, a bias, and the way of GPUs."""

import pytest
import torch

from drop_ray.refit.ridge import CHUNK, NormalEquations
from drop_ray.refit.split_gram import ROWS


def equations(a, r, *, bias=False, exact=True, portions=3):
    found = NormalEquations(a.shape[1], r.shape[1], bias=bias, device="cpu", exact=exact)
    for rows in torch.arange(len(a)).chunk(portions):
        found.add(a[rows], r[rows])
    found.center()
    assert found.tokens == len(a)
    return found


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def augmented(a, r, ridge):
    """The same minimum as least squares with rows for the ridge, by QR, without normal equations."""
    strength = ridge * (a**2).sum(0).mean()
    rows = torch.cat([a, strength.sqrt() * torch.eye(a.shape[1], dtype=a.dtype)])
    return torch.linalg.lstsq(rows, torch.cat([r, r.new_zeros(a.shape[1], r.shape[1])]), driver="gels").solution


def test_one_input_by_hand():
    # a'a = 1 + 4 = 5, a'r = 2 + 8 = 10; with a ridge of 1, lambda is 5.
    solution = equations(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]])).solve(1.0, last=True)
    assert solution.weight.item() == pytest.approx(1.0)
    assert solution.bias is None


@pytest.mark.parametrize("ridge", [1e-6, 0.1, 10.0])
def test_it_is_the_minimum_that_another_method_finds(ridge):
    a, r = numbers(3 * CHUNK + 5, 24), numbers(3 * CHUNK + 5, 7, seed=1)
    found = equations(a, r)
    weight = found.solve(ridge, last=False).weight
    torch.testing.assert_close(weight, augmented(a, r, ridge), rtol=1e-10, atol=1e-12)
    # What was kept can be solved again, and the last time in place.
    assert torch.equal(found.solve(ridge, last=True).weight, weight)


def test_a_bias_costs_nothing_and_takes_up_the_mean():
    a, r = numbers(500, 6) + 3, numbers(500, 4, seed=1) - 2
    solution = equations(a, r, bias=True).solve(0.5, last=True)
    centred_a, centred_r = a - a.mean(0), r - r.mean(0)
    torch.testing.assert_close(solution.weight, augmented(centred_a, centred_r, 0.5), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close((r - solution.outputs(a)).mean(0), torch.zeros(4, dtype=a.dtype), rtol=0, atol=1e-12)


def test_inputs_that_are_zero_change_nothing():
    solution = equations(torch.zeros(10, 3), torch.ones(10, 2)).solve(0.1, last=True)
    assert not solution.weight.any()


def correlated(tokens, width):
    """Inputs of which few directions carry most."""
    return numbers(tokens, 40) @ numbers(40, width, seed=2) + 0.1 * numbers(tokens, width, seed=3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ridge", [0.003, 1.0])
def test_the_way_of_gpus_comes_near_that_of_cpus_however_many_tokens(ridge, bias):
    """To 1e-5 of what is added to the outputs, with widths and numbers of tokens that panels and chunks do not divide.

    Weights differ by more where the ridge is small: in directions that inputs hardly have.
    """
    width, tokens = ROWS + 40, 3 * CHUNK + 7
    a, r = (correlated(tokens, width) + 1).float(), (numbers(tokens, 3, seed=1) - 1).float()
    exact, split = (equations(a, r, bias=bias, exact=kind).solve(ridge, last=True) for kind in (True, False))
    assert 0 < (split.weight - exact.weight).norm() < 3e-4 * exact.weight.norm()
    given, expected = split.outputs(a.double()), exact.outputs(a.double())
    assert (given - expected).norm() < 1e-5 * expected.norm()
