"""Sums in the memory of float32: how near they are to float64, and that every way to a solution is a right one."""

import logging

import pytest
import torch

from drop_ray.refit.gram import ExactGram
from drop_ray.refit.split_gram import ROWS, SplitGram

WIDTH = ROWS + 30


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grams(portions):
    exact, split = ExactGram(portions[0].shape[1], "cpu"), SplitGram(portions[0].shape[1], "cpu")
    for portion in portions:
        exact.add(portion)
        split.add(portion.float())
    return exact, split


@pytest.fixture(scope="module")
def inputs():
    """Small whole numbers, whose products float32 has exactly, so that only sums round; a few are large."""
    a = torch.randint(-7, 8, (3, 64, WIDTH), generator=torch.Generator().manual_seed(0)).double()
    a[1] *= 2**11
    return list(a)


def dense(split):
    """All sums, as the equations see them: G I."""
    return split._times(torch.eye(WIDTH, dtype=torch.float64), 0)


def test_sums_keep_what_float32_would_lose(inputs):
    exact, split = grams(inputs)
    assert torch.equal(dense(split), dense(split).T)
    assert torch.equal(dense(split), exact._sums)
    assert not torch.equal(exact._sums.float().double(), exact._sums)


def test_an_outer_product_is_added_to_every_sum(inputs):
    exact, split = grams(inputs)
    vector = numbers(WIDTH)
    exact.add_outer(vector, -0.5)
    split.add_outer(vector, -0.5)
    torch.testing.assert_close(dense(split), exact._sums, rtol=1e-12, atol=1e-6)
    assert split.mean_diagonal() == pytest.approx(exact.mean_diagonal(), rel=1e-14)


def test_it_can_be_solved_again_and_only_the_last_solution_is_refined(inputs):
    exact, split = grams(inputs)
    products = numbers(WIDTH, 5, seed=1)
    for strength in (2.0**20, 2.0**26):
        expected = exact.solve(strength, products, last=False)
        first, final = (split.solve(strength, products, last=last) for last in (False, True))
        assert (final - expected).norm() < 1e-6 * expected.norm()
        assert (final - expected).norm() < 0.01 * (first - expected).norm()


def test_what_float32_cannot_solve_is_solved_in_float64(inputs, caplog):
    """Fewer tokens than inputs, and hardly a ridge."""
    exact, split = grams(inputs)
    products, strength = numbers(WIDTH, 2), 1e-10 * exact.mean_diagonal()
    with caplog.at_level(logging.INFO):
        found = split.solve(strength, products, last=True)
    assert "float64 on the host" in caplog.text
    expected = exact.solve(strength, products, last=True)
    assert (found - expected).norm() < 1e-6 * expected.norm()
