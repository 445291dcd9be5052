"""What the texts of a run consist of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextRow:
    """A text of the run, or one of those that it is mixed from."""

    of: str
    """The text, as the config names it: `calibration`, `refit (refit).text`."""
    text: str
    """File, or dataset with its commit."""
    asked: float
    """The share that the config gives it, in proportion to those of the other texts; 1 of a text alone."""
    part: float
    """The same as a part of 1."""
    samples: int
    """Samples that are asked of it; a text that only compares predictions may have fewer."""
    tokens: int
    """Tokens of these samples."""
