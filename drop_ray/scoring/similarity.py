"""The statistics of a sweep: per-token distances between residual states, summed per sample."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from drop_ray.scoring.rows import ScoreRow

# What a total is of: layer, gap, module, metric.
TotalKey = tuple[int, int, str, str]


@dataclass(frozen=True)
class State:
    """A residual state and its token norms, which several similarities share.

    hidden: [batch, seq_len, hidden_size]; norms: [batch, seq_len], float32.
    """

    hidden: torch.Tensor
    norms: torch.Tensor

    def to(self, device: torch.device | str) -> "State":
        return State(self.hidden.to(device, non_blocking=True), self.norms.to(device, non_blocking=True))


def make_state(hidden: torch.Tensor) -> State:
    values = hidden.float()
    return State(hidden, (values * values).sum(-1).sqrt())


def sample_totals(before: State, after: State, metrics: Sequence[str]) -> dict[str, torch.Tensor]:
    """Sums over the tokens of each sample of each metric's distance between `before` and `after`: float64 [batch].

    Products and norms are taken in float32, element by element: a matrix kernel could silently use TF32.
    A token whose state is zero on one side is orthogonal to the other, as torch has it.
    """
    return {metric: DISTANCES[metric](before, after).sum(-1) for metric in metrics}


def rows_of(totals: Mapping[TotalKey, torch.Tensor], samples: range, tokens: int) -> list[ScoreRow]:
    """Score rows in table order (sample, gap, layer, module, metric) from totals [len(samples)]."""
    values = {key: total.tolist() for key, total in totals.items()}
    keys = sorted(values, key=lambda key: (key[1], key[0], *key[2:]))
    return [
        ScoreRow(sample, layer, gap, module, metric, values[layer, gap, module, metric][position], tokens)
        for position, sample in enumerate(samples)
        for layer, gap, module, metric in keys
    ]


def _cosine_distances(before: State, after: State) -> torch.Tensor:
    """1 - cos(X, Y) of each token, He et al., arXiv 2406.15786: float64 [batch, seq_len]."""
    dots = (before.hidden.float() * after.hidden.float()).sum(-1)
    norms = (_floored(before.norms) * _floored(after.norms)).double()
    return 1.0 - dots.double() / norms


def _angular_distances(before: State, after: State) -> torch.Tensor:
    """arccos(cos(X, Y)) / pi of each token, Gromov et al., arXiv 2403.17887: float64 [batch, seq_len].

    They take the last token of each sequence; here all tokens count, as for the cosine. The arccos itself is not taken:
    near cos = 1, where redundant layers are, it makes an error of 3e-4 from one of 1e-7. Kahan's formula,
    2 atan2(|u - v|, |u + v|) of the unit vectors, is accurate to float32 at every angle.
    """
    first = before.hidden.float() / _floored(before.norms).unsqueeze(-1)
    second = after.hidden.float() / _floored(after.norms).unsqueeze(-1)
    apart = torch.linalg.vector_norm(first - second, dim=-1)
    together = torch.linalg.vector_norm(first + second, dim=-1)
    return 2 / math.pi * torch.atan2(apart.double(), together.double())


def _floored(norms: torch.Tensor) -> torch.Tensor:
    # The same floor as torch.nn.functional.cosine_similarity.
    return norms.clamp_min(1e-8)


DISTANCES: Mapping[str, Callable[[State, State], torch.Tensor]] = {
    "cosine": _cosine_distances,
    "angular": _angular_distances,
}
