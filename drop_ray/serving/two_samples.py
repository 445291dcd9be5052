"""Whether two samples of tokens come from one distribution: a permutation test, which is exact at any sample size."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_KINDS = 16
"""Kinds that are told apart; the rarer ones are one."""
DRAWS = 19999
"""Divisions of the pooled sample that are drawn."""


def p_value(one: Sequence[Hashable], other: Sequence[Hashable], seed: int, draws: int = DRAWS) -> float:
    """How probable so large a difference is if both are of one distribution: at most a in a share a of all cases.

    The statistic is chi-squared on the counts of the kinds. It is compared with those of random divisions of the pooled
    sample, whose counts are multivariate hypergeometric. Kinds are merged by the pooled sample alone, which no division
    changes.
    """
    counts = _table(one, other)
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(counts.sum(0), int(counts[0].sum()), size=draws)
    # The observed division is one of them. Equal statistics may differ in the last bits.
    as_large = _statistic(drawn, counts) >= _statistic(counts[:1], counts)[0] * (1 - 1e-9)
    return float((1 + as_large.sum()) / (1 + draws))


def smallest_possible(draws: int = DRAWS) -> float:
    """The least that `p_value` can be."""
    return 1 / (1 + draws)


def _table(one: Sequence[Hashable], other: Sequence[Hashable]) -> NDArray[np.int64]:
    """Counts of the kinds in both samples: int64 [2, kinds]."""
    counted = Counter(one), Counter(other)
    pooled = sorted((counted[0] + counted[1]).items(), key=lambda item: (-item[1], repr(item[0])))
    kinds = [kind for kind, _ in pooled[: MOST_KINDS - 1]]
    rows = [[found[kind] for kind in kinds] for found in counted]
    return np.array([[*row, found.total() - sum(row)] for row, found in zip(rows, counted, strict=True)], np.int64)


def _statistic(firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Chi-squared of tables with the margins of `counts`, by their first row."""
    pooled, sizes = counts.sum(0), counts.sum(1)
    kept = pooled > 0
    expected = pooled[kept] * sizes[0] / sizes.sum()
    # Both rows miss what is expected by the same amount.
    found: NDArray[np.float64] = ((firsts[:, kept] - expected) ** 2 / expected).sum(1) * (sizes.sum() / sizes[1])
    return found
