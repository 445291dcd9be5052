"""What a sweep delivers, one row for each sample and module: plain values that need no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreRow:
    """The importance of one module for one sample: `total / tokens` is the mean distance of X and Y over its tokens."""

    sample: int
    layer: int
    gap: int
    module: str
    metric: str
    total: float
    tokens: int
