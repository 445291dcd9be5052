"""One sweep over the decoder layers scores attention, MLPs, blocks and block windows for a set of samples.

The outer loop is over waves of micro-batches, the next over layers, the inner one over the wave's micro-batches. With
resident layers a wave is one micro-batch. With streamed layers it is as many as fit the host budget, because each wave
reads all the weights once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.candidates import absent, needed_layers
from drop_ray.models.families import DropLists
from drop_ray.models.layer_states import states_within
from drop_ray.models.sublayers import is_norm, sublayer_names
from drop_ray.models.tracing import traits_of_model
from drop_ray.scoring.finite import finite_totals
from drop_ray.scoring.inputs import InputRecorder
from drop_ray.scoring.layers import LayerSource
from drop_ray.scoring.rows import ScoreRow
from drop_ray.scoring.state import State, make_state
from drop_ray.scoring.swept import SweptMetrics
from drop_ray.scoring.totals import TotalKey, rows_of
from drop_ray.text.progress import ignore_progress


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep scores, and how much of it is in memory at a time."""

    micro_batch: int
    """Number of samples per forward pass."""
    gaps: tuple[int, ...] = (1,)
    """Numbers of blocks in the windows to score; 1 scores every attention, MLP and block."""
    wave_bytes: int = 1 << 30
    """Bytes that the residual states of one wave may take when layers are streamed."""
    state_device: str | None = None
    """Device on which states wait for the next layer; None is the model's device."""
    metrics: tuple[str, ...] = ("cosine",)
    """Names of the metrics, none of which is one of the output."""


@dataclass
class _MicroBatch:
    """A micro-batch on its way through the layers."""

    samples: range
    """Indices of its samples."""
    keyword_arguments: tuple[dict[str, Any], ...]
    """Keyword arguments of each layer's call."""
    history: deque[State]
    """The states before the last `max(gaps)` layers, and the newest state."""
    totals: dict[TotalKey, torch.Tensor]
    """Sums of distances so far."""
    norms: list[torch.Tensor]
    """Of each state so far, the sum of its norms over each sample's tokens: not finite if a number of it is not."""


@torch.inference_mode()
def sweep(
    model: PreTrainedModel,
    source: LayerSource,
    token_ids: torch.Tensor,
    samples: Sequence[range],
    settings: SweepSettings,
    drops: DropLists,
    progress: Callable[[int, int], None] = ignore_progress,
) -> Iterator[tuple[range, list[ScoreRow]]]:
    """Yield the score rows of each range of samples, in order.

    model: its embedding must be on the device; token_ids: all calibration samples, [num_samples, seq_len]; samples:
    the ranges to score; drops: the sub-layers that the model lacks, which get no row. A range is cut into micro-batches
    from its own start, so that a sample's micro-batch does not depend on the worker. `progress` is told how many
    layer passes are done, and how many there are. Raises NotFiniteError at the first NaN or infinity.
    """
    recorder = InputRecorder(model)
    lacking, needed = drops.union(absent(model)), needed_layers(model)
    metrics = SweptMetrics.of(settings.metrics)
    device = model.get_input_embeddings().weight.device
    has_middle = traits_of_model(model).has_middle
    state_device = settings.state_device or device
    batches = [batch for part in samples for batch in _micro_batches(part, settings.micro_batch)]
    waves = _waves(batches, model, token_ids.shape[1], source.streams, settings)
    total = len(batches) * model.config.num_hidden_layers
    done = 0
    finished: dict[range, dict[TotalKey, list[float]]] = {}
    pending = deque(samples)
    for wave in waves:
        running = []
        for batch in wave:
            inputs = recorder(token_ids[batch.start : batch.stop].to(device))
            state = make_state(inputs.hidden)
            history = deque([state.to(state_device)], maxlen=max(settings.gaps) + 1)
            running.append(_MicroBatch(batch, inputs.keyword_arguments, history, {}, [_sums(state)]))
        with source.wave() as layers:
            for index, layer in enumerate(layers):
                for micro_batch in running:
                    _apply(layer, index, micro_batch, settings.gaps, metrics, lacking, needed, device, has_middle)
                done += len(running)
                progress(done, total)
        for micro_batch in running:
            finished[micro_batch.samples] = finite_totals(
                model, source, micro_batch.samples, micro_batch.norms, micro_batch.totals
            )
        while pending and all(batch in finished for batch in _micro_batches(pending[0], settings.micro_batch)):
            part = pending.popleft()
            rows = [
                row
                for batch in _micro_batches(part, settings.micro_batch)
                for row in rows_of(finished.pop(batch), batch, token_ids.shape[1])
            ]
            yield part, rows


def _micro_batches(samples: range, size: int) -> list[range]:
    return [range(start, min(start + size, samples.stop)) for start in range(samples.start, samples.stop, size)]


def _waves(
    batches: list[range], model: PreTrainedModel, seq_len: int, streams: bool, settings: SweepSettings
) -> list[list[range]]:
    if not streams:
        return [[batch] for batch in batches]
    state_bytes = settings.micro_batch * seq_len * model.config.hidden_size * model.dtype.itemsize
    # A wave's batches keep one state each, and max(gaps) more for the windows.
    size = max(1, settings.wave_bytes // (state_bytes * (1 + max(settings.gaps))))
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def _apply(
    layer: nn.Module,
    index: int,
    batch: _MicroBatch,
    gaps: tuple[int, ...],
    metrics: SweptMetrics,
    lacking: DropLists,
    needed: frozenset[int],
    device: torch.device,
    has_middle: bool,
) -> None:
    """Take one micro-batch through one layer, and add the totals of everything that ends there.

    lacking: sub-layers that are not there; needed: layers whose attention must stay, which has no row.
    """
    before = batch.history[-1].to(device)
    gone = {"attention": index in lacking.attn or index in needed, "mlp": index in lacking.mlp}
    modules = [module for module, is_gone in gone.items() if not is_gone]
    with _attention_of(layer, bool(metrics.attentions) and "attention" in modules) as seen:
        middle, end = states_within(layer, before.hidden, batch.keyword_arguments[index], has_middle)
    between, after = make_state(middle), make_state(end)
    states = {"attention": (before, between), "mlp": (between, after)}
    batch.history.append(after.to(batch.history[-1].hidden.device))
    batch.norms += [_sums(between), _sums(after)]

    def add(first_layer: int, gap: int, module: str, totals: Mapping[str, torch.Tensor]) -> None:
        batch.totals.update({(first_layer, gap, module, metric): total for metric, total in totals.items()})

    if 1 in gaps and modules:
        for module in modules:
            add(index, 1, module, metrics.state_totals(module, *states[module]))
        if index not in needed:
            add(index, 1, "block", metrics.state_totals("block", before, after))
        for probabilities in seen:
            add(index, 1, "attention", metrics.attention_totals(probabilities, before))
        for (module, metric), total in metrics.weight_totals(index, layer, modules, before).items():
            add(index, 1, module, {metric: total})
    for gap in gaps:
        if gap > 1 and len(batch.history) > gap and not needed.intersection(range(index - gap + 1, index + 1)):
            # The last entry is the state after this layer; `gap` entries earlier lies the one before layer index-gap+1.
            first = batch.history[-1 - gap].to(device)
            add(index - gap + 1, gap, "block", metrics.state_totals("block", first, after))


def _sums(state: State) -> torch.Tensor:
    return state.norms.sum(-1, dtype=torch.float64)


@contextmanager
def _attention_of(layer: nn.Module, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """A list that gets the attention's probabilities, [batch, heads, seq_len, keys], if they are wanted."""
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, tuple) and isinstance(output[1], torch.Tensor):  # mixers of other kinds have none
            seen.append(output[1])

    mixers = [name for name in sublayer_names(layer)["attention"] if not is_norm(name)]
    hooks = [getattr(layer, name).register_forward_hook(keep) for name in mixers if wanted]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
