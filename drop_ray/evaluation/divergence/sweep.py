"""Base and variants over the samples of a text at once: the base's logits are computed beside theirs, and not kept.

All variants that only lack sub-layers of the base are one forward pass of the base, and what each has of its own. The
outer loop is over waves of micro-batches, as in `scoring.sweep`: one micro-batch where layers are resident, as many as
fit the host budget where they are streamed, because each wave reads all the weights once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch

from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.divergence.comparison import Comparison, compare, joined, predictions_of, rows_at_once, stacked
from drop_ray.evaluation.divergence.state_models import StateModel, States
from drop_ray.models.families import DropLists
from drop_ray.text.progress import ignore_progress


@dataclass(frozen=True)
class Compared:
    """A model as it is compared."""

    model: StateModel
    """What computes it; of a variant that only lacks sub-layers, the base's own."""
    drops: DropLists
    """What it lacks."""


@dataclass(frozen=True)
class DivergenceSettings:
    """How much is in memory at a time."""

    micro_batch: int
    """Number of samples per forward pass."""
    wave_bytes: int = 1 << 30
    """Bytes that the states of one wave may take when layers are streamed."""


@dataclass(frozen=True)
class Divergences:
    """What a sweep found, by the name of each variant."""

    found: dict[str, Comparison] = field(default_factory=dict)
    """The numbers of every predicted token, each [samples, seq_len - 1]."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why a variant has none: the first sample whose logits are not finite, with cause and remedy."""


@torch.inference_mode()
def compare_with_base(
    base: Compared,
    variants: Mapping[str, Compared],
    token_ids: torch.Tensor,
    settings: DivergenceSettings,
    progress: Callable[[int, int], None] = ignore_progress,
) -> Divergences:
    """Compare variants with the base at tokens 1..seq_len-1 of each sample, given the tokens before them.

    token_ids: int64 [num_samples, seq_len] on the host. What is found of a variant depends neither on the others nor on
    where layers come from. `progress` is told how many layer passes of the base are done, and how many there are.
    NotFiniteError if the base's logits are not finite.
    """
    starts = range(0, len(token_ids), settings.micro_batch)
    size = _wave_size(base, variants, token_ids.shape[1], settings)
    waves = [starts[first : first + size] for first in range(0, len(starts), size)]
    passes, total = count(1), len(waves) * base.model.num_layers
    parts: dict[str, list[Comparison]] = {name: [] for name in variants}
    faults: dict[str, str] = {}
    for wave in waves:
        batches = [token_ids[start : start + settings.micro_batch] for start in wave]
        states = _states(base, variants, batches, lambda: progress(next(passes), total))
        for start, batch, here in zip(wave, batches, states, strict=True):
            for row, sample in enumerate(batch):
                left = {name: one for name, one in variants.items() if name not in faults}
                for name, found in _compare_sample(base, left, sample, row, here).items():
                    if not np.isfinite(found.base_nll).all():
                        raise NotFiniteError(f"the base at {_fault(base, sample, start + row)}")
                    if np.isfinite(found).all():
                        parts[name].append(found)
                    else:
                        faults[name] = _fault(variants[name], sample, start + row)
    return Divergences({name: stacked(each) for name, each in parts.items() if name not in faults}, faults)


def _wave_size(base: Compared, variants: Mapping[str, Compared], seq_len: int, settings: DivergenceSettings) -> int:
    """Number of micro-batches in a wave."""
    if not any(one.model.streams for one in (base, *variants.values())):
        return 1
    # Every variant has a state of its own at the end.
    batch_bytes = settings.micro_batch * seq_len * base.model.state_bytes * (1 + len(variants))
    return max(1, settings.wave_bytes // batch_bytes)


def _states(
    base: Compared, variants: Mapping[str, Compared], batches: Sequence[torch.Tensor], passed: Callable[[], None]
) -> list[dict[StateModel, States]]:
    """The states of each micro-batch, by model."""
    drops: dict[StateModel, list[DropLists]] = {}
    for one in (base, *variants.values()):
        drops.setdefault(one.model, []).append(one.drops)
    found = {
        model: model.states(batches, lists, passed if model is base.model else lambda: None)
        for model, lists in drops.items()
    }
    return [{model: states[place] for model, states in found.items()} for place in range(len(batches))]


def _compare_sample(
    base: Compared,
    variants: Mapping[str, Compared],
    sample: torch.Tensor,
    row: int,
    states: Mapping[StateModel, States],
) -> dict[str, Comparison]:
    """The comparisons of one sample, some tokens at a time. row: its place in the micro-batch of `states`."""
    parts: dict[str, list[Comparison]] = {name: [] for name in variants}
    step, last = rows_at_once(base.model.vocabulary), len(sample) - 1
    for start in range(0, last, step):
        part = slice(start, min(start + step, last))

        def logits(one: Compared, part: slice = part) -> torch.Tensor:
            hidden = states[one.model][one.drops][row, part]
            return one.model.logits(sample[part], hidden).to(base.model.device)

        of_base = predictions_of(logits(base))
        targets = sample[part.start + 1 : part.stop + 1].to(base.model.device)
        for name, one in variants.items():
            parts[name].append(compare(of_base, logits(one), targets))
    return {name: joined(each) for name, each in parts.items()}


def _fault(one: Compared, sample: torch.Tensor, number: int) -> str:
    return f"sample {number}: {one.model.fault(sample[None], one.drops)}"
