"""Refitted variants in a report: what they were fitted to, what each sub-layer lacked, and whether it came back."""

from dataclasses import dataclass
from typing import Literal

ERRORS = 2
"""So many standard errors below zero a difference is taken for real."""


@dataclass(frozen=True)
class RefitRow:
    """What one variant was refitted with, and its divergence from the base on samples that it was not fitted to."""

    variant: str
    """Name of the refitted variant."""
    of: str
    """Name of the variant that was refitted."""
    ridge: str
    """The ridge that the config gives: a number, or `auto`."""
    text: str
    """Text that it was fitted to and measured on."""
    samples: int
    """Samples that it was fitted to."""
    tokens: int
    """Tokens of these."""
    projections: int
    """Output projections that were solved."""
    held_out: int
    """Samples held out."""
    kl_dropped: float
    """Mean KL divergence from the base per token of the held-out samples before it was refitted, in nats."""
    kl_refitted: float
    """The same after."""
    difference: float
    """After less before."""
    stderr: float | None
    """Standard error of the difference, paired by sample."""

    @property
    def is_closer(self) -> bool:
        """Whether it is nearer to the base than before, by more than two standard errors."""
        return self.stderr is not None and self.difference < -ERRORS * self.stderr


@dataclass(frozen=True)
class RefitErrorRow:
    """What the residual stream lacked after one sub-layer, against the base's, before and after it was refitted."""

    variant: str
    """Name of the refitted variant."""
    layer: int
    """Index of the layer."""
    module: Literal["attention", "mlp"]
    """The sub-layer."""
    ridge: float
    """The ridge that was taken; infinite where the projection was left as it is."""
    inputs: int
    """Inputs of its projection."""
    fitted_before: float
    """Squared length of what was lacking, summed over the tokens that it was fitted to, before."""
    fitted_after: float
    """The same after."""
    held_out_before: float
    """The same over held-out tokens, before."""
    held_out_after: float
    """The same after."""
