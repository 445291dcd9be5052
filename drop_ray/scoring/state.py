"""A residual state between two sub-layers, as a sweep keeps it and metrics compare it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class State:
    """A residual state, with the norms that several metrics use.

    Products and norms of states are taken in float32, element by element: a matrix kernel could silently use TF32.
    """

    hidden: torch.Tensor
    """The state, [batch, seq_len, hidden_size], in the model's dtype."""
    norms: torch.Tensor
    """Euclidean norm of each token's state, [batch, seq_len], float32."""

    @property
    def floored_norms(self) -> torch.Tensor:
        """Norms to divide by, never zero. The cosine of a zero state with any other is 0, as in torch."""
        # The same floor as torch.nn.functional.cosine_similarity.
        return self.norms.clamp_min(1e-8)

    def to(self, device: torch.device | str) -> "State":
        return State(self.hidden.to(device, non_blocking=True), self.norms.to(device, non_blocking=True))


def make_state(hidden: torch.Tensor) -> State:
    values = hidden.float()
    return State(hidden, (values * values).sum(-1).sqrt())
