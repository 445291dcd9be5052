"""Scores summed per sample, which a sweep keeps of each module and metric, and the score rows made of them."""

from collections.abc import Mapping, Sequence

from drop_ray.scoring.rows import ScoreRow

# Key of a total: layer, gap, module, metric.
TotalKey = tuple[int, int, str, str]


def rows_of(values: Mapping[TotalKey, Sequence[float]], samples: range, tokens: int) -> list[ScoreRow]:
    """Score rows in table order (sample, gap, layer, module, metric) from totals, one of each sample."""
    keys = sorted(values, key=lambda key: (key[1], key[0], *key[2:]))
    return [
        ScoreRow(sample, layer, gap, module, metric, values[layer, gap, module, metric][position], tokens)
        for position, sample in enumerate(samples)
        for layer, gap, module, metric in keys
    ]
