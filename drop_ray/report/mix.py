"""What the calibration text of a run was mixed from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MixRow:
    """One of the texts of a mix, with what was taken of it for the calibration samples."""

    text: str
    """File, or dataset with its commit."""
    asked: float
    """The share that the config gives it, in proportion to those of the other texts."""
    part: float
    """The same as a part of 1."""
    samples: int
    """Calibration samples of it."""
    tokens: int
    """Tokens of these samples."""
