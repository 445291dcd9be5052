"""What a sweep delivers, one row for each sample and module: plain values that need no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreRow:
    """The importance of one module for one sample: `total / tokens` is the mean distance of X and Y over its tokens."""

    sample: int
    """Its index among the calibration samples."""
    layer: int
    """The first one, of a window of blocks."""
    gap: int
    """Blocks in the window; 1 is a single attention, MLP or block."""
    module: str
    """`attention`, `mlp` or `block`."""
    metric: str
    """Name of the metric by which X and Y are compared."""
    total: float
    """Sum of the distances of its tokens."""
    tokens: int
    """How many they are."""
