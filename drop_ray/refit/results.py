"""How a model is refitted, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from drop_ray.refit.fitting import Fit

Tensors = Mapping[str, torch.Tensor]
"""Tensors by their names in the checkpoint's files."""


@dataclass(frozen=True)
class RefitSettings:
    """How a model is refitted."""

    ridge: float | None
    """Strength of the ridge, relative to the mean square of the inputs; None chooses it by held-out samples."""
    micro_batch: int
    """Number of samples per forward pass."""
    dtype: torch.dtype
    """Dtype in which both models compute."""
    attn_implementation: str | None
    """Attention implementation of both; None is the family's default."""
    device: str = "cpu"
    """Device on which they compute."""

    @property
    def exact(self) -> bool:
        """Whether products are of float64, in which GPUs are slow."""
        return self.device == "cpu"


@dataclass(frozen=True)
class LayerFit:
    """A layer that was refitted."""

    layer: int
    """Its number."""
    tensors: Tensors
    """Its changed tensors, on the host."""
    fits: tuple[Fit, ...]
    """What was done to each of its sub-layers that has a projection."""


@dataclass(frozen=True)
class HeldOut:
    """How far the model's predictions on one held-out sample are from the base's."""

    sample: int
    """Number of the sample."""
    tokens: int
    """Number of its tokens."""
    kl_dropped: float
    """Mean KL divergence per token of the dropped model before it was refitted, in nats."""
    kl_refitted: float
    """The same after."""
