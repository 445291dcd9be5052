"""The rows that a sweep yields, one for each sample and module: plain values that need no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreRow:
    """Importance of one module on one sample: `total / tokens` is the mean distance between X before and Y after it."""

    sample: int
    """Its index among the calibration samples."""
    layer: int
    """Index of the layer, or of the first one in a window of blocks."""
    gap: int
    """Number of blocks in the window; 1 is a single attention, MLP or block."""
    module: str
    """`attention`, `mlp` or `block`."""
    metric: str
    """Name of the metric by which X and Y are compared."""
    total: float
    """Sum of the distances over the sample's tokens."""
    tokens: int
    """Number of the sample's tokens."""
