"""The statistics of a sweep: per-token cosines between residual states, summed per sample."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from drop_ray.scoring.rows import ScoreRow

# Metric name -> what one token contributes, from its cosine. Importance is 1 - cos(X, Y), He et al., arXiv 2406.15786.
METRICS = ("cosine",)


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


def sample_totals(before: State, after: State) -> torch.Tensor:
    """Sums over the tokens of each sample of 1 - cos(before, after): float64 [batch].

    Products and norms are taken in float32, element by element: a matrix kernel could silently use TF32.
    A token whose state is zero on either side has cos = 0, as torch has it.
    """
    dots = (before.hidden.float() * after.hidden.float()).sum(-1)
    # The same floor as torch.nn.functional.cosine_similarity.
    norms = (before.norms.clamp_min(1e-8) * after.norms.clamp_min(1e-8)).double()
    return (1.0 - dots.double() / norms).sum(-1)


def rows_of(
    totals: Mapping[tuple[int, int, str], torch.Tensor], samples: range, tokens: int, metric: str = METRICS[0]
) -> list[ScoreRow]:
    """Score rows in table order (sample, gap, layer, module) from totals [len(samples)] keyed (layer, gap, module)."""
    values = {key: total.tolist() for key, total in totals.items()}
    keys = sorted(values, key=lambda key: (key[1], key[0], key[2]))
    return [
        ScoreRow(sample, layer, gap, module, metric, values[layer, gap, module][position], tokens)
        for position, sample in enumerate(samples)
        for layer, gap, module in keys
    ]
