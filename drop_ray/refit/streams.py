"""The residual states of all samples on the host, on their way through the layers of one model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drop_ray.models.decoder import state_of
from drop_ray.models.files.stored_tensors import empty_pages
from drop_ray.refit.order import Kind
from drop_ray.refit.sublayers import alone


@dataclass(frozen=True)
class MicroBatch:
    """Samples that pass through a layer together."""

    samples: range
    """Their numbers."""
    held_out: bool
    """Whether they are only measured on, and not fitted to."""
    arguments: tuple[Mapping[str, Any], ...]
    """Keyword arguments of each layer's call."""


class Stream:
    """States of micro-batches at one place of a model, [samples, seq_len, hidden_size] in its dtype, on the host."""

    def __init__(self, batches: Iterable[MicroBatch], states: Iterable[torch.Tensor], device: torch.device | str):
        self.batches, self._device = list(batches), device
        # Each in memory of its own for good: small pieces that come and go between large ones split the heap up.
        self.states = [empty_pages(tuple(state.shape), state.dtype).copy_(state) for state in states]

    def state(self, index: int) -> torch.Tensor:
        """The state of a micro-batch, on the device."""
        return self.states[index].to(self._device, non_blocking=True)

    def copy(self, *, held_out_only: bool = False) -> "Stream":
        """The states of all micro-batches, or of those held out, which go on apart from these."""
        everything = zip(self.batches, self.states, strict=True)
        pairs = [pair for pair in everything if pair[0].held_out or not held_out_only]
        return Stream([batch for batch, _ in pairs], [state for _, state in pairs], self._device)

    def after(self, layer: nn.Module, number: int, index: int) -> torch.Tensor:
        """The state of a micro-batch after a layer of that number, or after what is in it, on the device."""
        return state_of(layer(self.state(index), **self.batches[index].arguments[number]))

    def pass_through(self, layer: nn.Module, number: int) -> None:
        """Take all states through a layer of that number, or through what is in it."""
        for index in range(len(self.batches)):
            self.states[index].copy_(self.after(layer, number, index))


class Layers:
    """A model's layers in their order, one loaded at a time."""

    def __init__(self, layers: Iterator[nn.Module], first: int, device: torch.device | str):
        """layers: from the layer `first` on, on the device."""
        self._layers, self._number, self._device = layers, first - 1, device
        self._layer: nn.Module | None = None
        self._is_parked = False

    def at(self, number: int) -> nn.Module:
        """The layer of that number, which is no lower than the last one."""
        while self._number < number:
            self._layer, self._number, self._is_parked = next(self._layers), self._number + 1, False
        assert self._layer is not None
        if self._is_parked:
            self._layer.to(self._device)
            self._is_parked = False
        return self._layer

    def park(self) -> None:
        """Take the layer to the host, until it is asked for."""
        if self._layer is not None:
            self._layer.to("cpu")
            self._is_parked = True


class Walk:
    """A stream on its way through a whole model, sub-layer by sub-layer."""

    def __init__(self, stream: Stream, layers: Layers):
        self.stream, self._layers, self.place = stream, layers, 0

    def go_to(self, place: int) -> None:
        """Take the states on to that place, or leave them where they are if they have come farther."""
        while self.place < place:
            number, kind = self.place // 2, kind_of(self.place)
            layer = self._layers.at(number)
            if kind == "attention" and place >= self.place + 2:
                self.stream.pass_through(layer, number)
                self.place += 2
            else:
                with alone(layer, kind):
                    self.stream.pass_through(layer, number)
                self.place += 1


def kind_of(number: int) -> Kind:
    """The kind of the sub-layer that follows a place."""
    return "mlp" if number % 2 else "attention"
