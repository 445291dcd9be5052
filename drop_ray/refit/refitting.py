"""Refits a dropped model layer by layer: base and refitted model side by side, layers streamed from the checkpoint.

On the device are at most a layer of each model and the sums of one projection. The states of all samples wait on the
host. Each kept sub-layer is called twice, before and after its projection is solved, and the base's once: three forward
passes, less what lies before the first dropped sub-layer, which both models share.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.loading import Weights, release
from drop_ray.refit.fitting import Fit, fit_sublayer, put
from drop_ray.refit.head import Head
from drop_ray.refit.memory import give_back_freed
from drop_ray.refit.order import SubLayer, kept_sublayers, parting, refitted_sublayers
from drop_ray.refit.streams import Layers, MicroBatch, Stream, Walk
from drop_ray.refit.sublayers import alone, projection_of
from drop_ray.scoring.inputs import InputRecorder
from drop_ray.scoring.layers import StreamedLayers
from drop_ray.scoring.scorer import load_source
from drop_ray.text.progress import ignore_progress

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


class Refitting:
    """The work on one plan. Layers come first, in order, then what they achieved."""

    def __init__(
        self,
        base: Checkpoint,
        source: Checkpoint,
        drops: DropLists,
        samples: torch.Tensor,
        held_out: range,
        settings: RefitSettings,
    ):
        """base: the model whose states are to be reached; source: the same, or with tensors of other values; drops: all
        that the refitted model lacks; samples: token ids, [samples, seq_len]; held_out: those not fitted to.
        """
        self._settings, self._samples, self._held_out = settings, samples, held_out
        lacking = drop_lists_of(base)
        config = read_config(base)
        self._base, self._model = (
            build_skeleton(config, lists, settings.dtype, settings.attn_implementation) for lists in (lacking, drops)
        )
        self._base_weights, self._weights = Weights(self._base, base), Weights(self._model, source)
        self._source = source
        kept = refitted_sublayers(config.num_hidden_layers, drops, lacking)
        # A model with other values is another one from its first layer on.
        if kept and source is not base:
            kept = list(kept_sublayers(config.num_hidden_layers, drops))
        self._kept = kept
        self._start = 0 if source is not base or not kept else parting(kept, drops, lacking)
        self._last = 2 * config.num_hidden_layers
        self.held_out: list[HeldOut] = []
        """Set when all layers are done."""

    @torch.no_grad()
    def layers(
        self,
        known: Callable[[int], Tensors | None] = lambda _: None,
        progress: Callable[[int, int], None] = ignore_progress,
    ) -> Iterator[LayerFit]:
        """Refit the layers one after the other.

        known: the changed tensors of a layer that was refitted before, which is then not done again. `progress` is told
        (layers done, layers in all). Raises NotFiniteError at the first state that is not finite.
        """
        if not self._kept:
            return
        groups = [(number, list(group)) for number, group in groupby(self._kept, lambda one: one.layer)]
        with ExitStack() as stack:
            base = Walk(self._enter(), Layers(stack.enter_context(self._base_layers.wave()), 0))
            base.go_to(self._start)
            stream, plain = base.stream.copy(), base.stream.copy(held_out_only=True)
            first = self._kept[0].layer
            prefix = f"{self._model.base_model_prefix}.layers"
            source = StreamedLayers(decoder_layers(self._model), prefix, self._weights, self._settings.device, first)
            layers = Layers(stack.enter_context(source.wave()), first)
            for done, (number, sublayers) in enumerate(groups, 1):
                layer = layers.at(number)
                self._pass_unchanged(plain, layer, sublayers)
                tensors = known(number)
                if tensors is not None:
                    self._pass_known(stream, layer, sublayers, tensors)
                elif fit := self._fit_layer(base, stream, layer, sublayers):
                    yield fit
                progress(done, len(groups))
            base.go_to(self._last)
        self.held_out = self._divergences(base.stream, plain, stream)

    def _enter(self) -> Stream:
        """The states before layer 0; fills `_base_layers`."""
        device, size = self._settings.device, self._settings.micro_batch
        self._base_layers = load_source(self._base, self._base_weights, "streamed", device)
        recorder = InputRecorder(self._base)
        batches, states = [], []
        total = len(self._samples)
        for part in (range(self._held_out.start), self._held_out, range(self._held_out.stop, total)):
            for start in range(part.start, part.stop, size):
                chosen = range(start, min(start + size, part.stop))
                inputs = recorder(self._samples[chosen.start : chosen.stop].to(device))
                batches.append(MicroBatch(chosen, part is self._held_out, inputs.keyword_arguments))
                states.append(inputs.hidden.to("cpu"))
        release([self._base.get_input_embeddings()])
        return Stream(batches, states, device)

    def _pass_unchanged(self, plain: Stream, layer: nn.Module, sublayers: list[SubLayer]) -> None:
        """Take the held-out states of the model that is not refitted on, from where all models part."""
        number = sublayers[0].layer
        if sublayers[0].kind == "mlp":  # the attention is dropped, or before the place where the models part
            with alone(layer, "mlp"):
                plain.pass_through(layer, number)
        else:
            plain.pass_through(layer, number)

    def _pass_known(self, stream: Stream, layer: nn.Module, sublayers: list[SubLayer], tensors: Tensors) -> None:
        for sublayer in sublayers:
            names = self._names(layer, sublayer)
            if found := projection_of(layer, sublayer.kind):
                put(found[1], {part: tensors[name] for part, name in names.items()})
            with alone(layer, sublayer.kind):
                stream.pass_through(layer, sublayer.layer)

    def _fit_layer(self, base: Walk, stream: Stream, layer: nn.Module, sublayers: list[SubLayer]) -> LayerFit | None:
        tensors: dict[str, torch.Tensor] = {}
        fits: list[Fit] = []
        for sublayer in sublayers:
            base.go_to(sublayer.target)
            names = self._names(layer, sublayer)
            stored = self._source.read(names.values())
            found = fit_sublayer(
                sublayer,
                layer,
                stream,
                base.stream.states,
                self._settings.ridge,
                {part: stored[name] for part, name in names.items()},
                exact=self._settings.exact,
            )
            if found is not None:
                give_back_freed()
                tensors |= {names[part]: tensor for part, tensor in found[0].items()}
                fits.append(found[1])
        return LayerFit(sublayers[0].layer, tensors, tuple(fits)) if fits else None

    def _names(self, layer: nn.Module, sublayer: SubLayer) -> dict[str, str]:
        """Names in the files of a projection's tensors, by `weight` and `bias`; none where there is no projection."""
        found = projection_of(layer, sublayer.kind)
        if found is None:
            return {}
        prefix = f"{self._model.base_model_prefix}.layers.{sublayer.layer}.{found[0]}"
        return {part: self._weights.stored_name(f"{prefix}.{part}") for part, _ in found[1].named_parameters()}

    def _divergences(self, base: Stream, plain: Stream, refitted: Stream) -> list[HeldOut]:
        head = Head(self._base, self._base_weights, self._settings.device)
        held_out = [base.copy(held_out_only=True), plain, refitted.copy(held_out_only=True)]
        found = []
        for index, batch in enumerate(plain.batches):
            for row, sample in enumerate(batch.samples):
                states = [stream.states[index][row] for stream in held_out]
                found.append(HeldOut(sample, len(states[0]), *head.divergences(states[0], states[1:])))
        head.release()
        return found
