"""The residual stream between two sub-layers, as a sweep keeps it and metrics compare it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class State:
    """A residual state and what several metrics share.

    Products and norms of states are taken in float32, element by element: a matrix kernel could silently use TF32.
    """

    hidden: torch.Tensor
    """[batch, seq_len, hidden_size], in the model's dtype."""
    norms: torch.Tensor
    """Of its tokens, [batch, seq_len], float32."""

    @property
    def floored_norms(self) -> torch.Tensor:
        """Norms to divide by. A token whose state is zero on one side is orthogonal to the other, as torch has it."""
        # The same floor as torch.nn.functional.cosine_similarity.
        return self.norms.clamp_min(1e-8)

    def to(self, device: torch.device | str) -> "State":
        return State(self.hidden.to(device, non_blocking=True), self.norms.to(device, non_blocking=True))


def make_state(hidden: torch.Tensor) -> State:
    values = hidden.float()
    return State(hidden, (values * values).sum(-1).sqrt())
