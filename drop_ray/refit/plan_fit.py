"""One plan on its way through the layers: its sub-layers are refitted as the base's states come along."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.loading import Weights
from drop_ray.models.quantized_base.in_16_bits import in_16_bits
from drop_ray.refit.fitting import Fit, fit_sublayer, put
from drop_ray.refit.memory import give_back_freed
from drop_ray.refit.order import SubLayer
from drop_ray.refit.results import HeldOut, LayerFit, RefitSettings, Tensors
from drop_ray.refit.streams import Layers, Stream
from drop_ray.refit.sublayers import alone, projection_of
from drop_ray.scoring.layers import StreamedLayers

Known = Callable[[int], Tensors | None]
"""The changed tensors of a layer that was refitted before; None where it was not."""


class PlanFit:
    """The refit of one plan."""

    stream: Stream
    """The states of the refitted model."""
    plain: Stream
    """Those of the held-out samples in the model that is not refitted."""

    def __init__(
        self,
        model: PreTrainedModel,
        source: Checkpoint,
        kept: Sequence[SubLayer],
        start: int,
        known: Known,
        settings: RefitSettings,
    ):
        """model: skeleton of the dropped model; source: its weights; kept: sub-layers to refit, in their order; start:
        the place at which it parts from the base.
        """
        self._model, self._source, self._weights = model, source, Weights(model, source)
        self._groups = [(number, list(group)) for number, group in groupby(kept, lambda one: one.layer)]
        self._start, self._known, self._settings = start, known, settings
        self._layers: Layers | None = None
        self.layers_done = 0
        """Number of layers that are done."""
        self.held_out: list[HeldOut] = []
        """Set when all layers are done."""

    @property
    def num_layers(self) -> int:
        """Number of layers with something to refit."""
        return len(self._groups)

    def work(self, base: Stream, stack: ExitStack) -> Iterator[int | LayerFit]:
        """Yields a place whenever the base's states are to be there next, and every layer that was refitted.

        Places grow. base: the base's states; stack: what the layers' reading ends with.
        """
        if not self._groups:
            return
        yield self._start
        self.stream, self.plain = base.copy(), base.copy(held_out_only=True)
        self._layers = self._streamed(self._groups[0][0], stack)
        for number, sublayers in self._groups:
            known = self._known(number)
            if known is not None:
                self._pass_known(self._layers.at(number), sublayers, known)
            else:
                yield from self._fit_layer(base, self._layers, number, sublayers)
            self.layers_done += 1

    def park(self) -> None:
        """Take its layer off the device, until it goes on."""
        if self._layers is not None:
            self._layers.park()

    def _streamed(self, first: int, stack: ExitStack) -> Layers:
        prefix = layers_path(self._model)
        source = StreamedLayers(decoder_layers(self._model), prefix, self._weights, self._settings.device, first)
        return Layers(stack.enter_context(source.wave()), first, self._settings.device)

    def _fit_layer(
        self, base: Stream, layers: Layers, number: int, sublayers: list[SubLayer]
    ) -> Iterator[int | LayerFit]:
        tensors: dict[str, torch.Tensor] = {}
        fits: list[Fit] = []
        for sublayer in sublayers:
            yield sublayer.target
            layer = layers.at(number)
            if sublayer is sublayers[0]:
                self._pass_unchanged(layer, sublayers)
            names = self._names(layer, sublayer)
            stored = in_16_bits(self._source, names.values()).read(names.values())
            found = fit_sublayer(
                sublayer,
                layer,
                self.stream,
                base.states,
                self._settings.ridge,
                {part: stored[name] for part, name in names.items()},
                exact=self._settings.exact,
            )
            if found is not None:
                give_back_freed()
                tensors |= {names[part]: tensor for part, tensor in found[0].items()}
                fits.append(found[1])
        if fits:
            yield LayerFit(number, tensors, tuple(fits))

    def _pass_unchanged(self, layer: nn.Module, sublayers: list[SubLayer]) -> None:
        """Take the held-out states of the model that is not refitted on, from where all models part."""
        number = sublayers[0].layer
        if sublayers[0].kind == "mlp":  # the attention is dropped, or before the place where the models part
            with alone(layer, "mlp"):
                self.plain.pass_through(layer, number)
        else:
            self.plain.pass_through(layer, number)

    def _pass_known(self, layer: nn.Module, sublayers: list[SubLayer], tensors: Tensors) -> None:
        self._pass_unchanged(layer, sublayers)
        for sublayer in sublayers:
            names = self._names(layer, sublayer)
            if found := projection_of(layer, sublayer.kind):
                put(found[1], {part: tensors[name] for part, name in names.items()})
            with alone(layer, sublayer.kind):
                self.stream.pass_through(layer, sublayer.layer)

    def _names(self, layer: nn.Module, sublayer: SubLayer) -> dict[str, str]:
        """Names in the files of a projection's tensors, by `weight` and `bias`; none where there is no projection."""
        found = projection_of(layer, sublayer.kind)
        if found is None:
            return {}
        prefix = f"{layers_path(self._model)}.{sublayer.layer}.{found[0]}"
        return {part: self._weights.stored_name(f"{prefix}.{part}") for part, _ in found[1].named_parameters()}
