"""Where a sweep's decoder layers come from: resident on the device, or streamed from the checkpoint with prefetch."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import nn

from drop_ray.models.loading import Weights, assign, release


class LayerSource(Protocol):
    """Gives the decoder layers in order, once for each wave of the sweep."""

    streams: bool

    def wave(self) -> AbstractContextManager[Iterator[nn.Module]]:
        """A context in which to iterate over the loaded layers; a layer is valid until the next one is asked for."""

    def tensors(self, index: int) -> Mapping[str, torch.Tensor]:
        """The parameters of a layer by its own names, to be looked at when its output is not finite."""


class ResidentLayers:
    """Every layer stays on the device: a wave costs nothing, so it can be as small as one micro-batch."""

    streams = False

    def __init__(self, layers: nn.ModuleList):
        self._layers = layers

    @contextmanager
    def wave(self) -> Iterator[Iterator[nn.Module]]:
        yield iter(self._layers)

    def tensors(self, index: int) -> Mapping[str, torch.Tensor]:
        return dict(self._layers[index].named_parameters())


class StreamedLayers:
    """One layer on the device at a time; the next one is read from the checkpoint while it computes.

    At most two layers are in memory: the one in use and the one being read.
    """

    streams = True

    def __init__(
        self, layers: nn.ModuleList, prefix: str, weights: Weights, device: torch.device | str, first: int = 0
    ):
        """prefix: what the layers' tensor names begin with, such as `model.layers`; first: the layer to begin with."""
        self._layers = layers
        self._first = first
        self._prefix = prefix
        self._weights = weights
        self._device = device

    @contextmanager
    def wave(self) -> Iterator[Iterator[nn.Module]]:
        with ThreadPoolExecutor(1, thread_name_prefix="layer-prefetch") as reader:
            yield self._iterate(reader)

    def tensors(self, index: int) -> Mapping[str, torch.Tensor]:
        return self._weights.read(self._layers[index], f"{self._prefix}.{index}.")

    def _iterate(self, reader: ThreadPoolExecutor) -> Iterator[nn.Module]:
        upcoming = self._read(reader, self._first)
        for index in range(self._first, len(self._layers)):
            layer = self._layers[index]
            assign(layer, upcoming.result(), self._device)
            # The next read starts only now, or three layers would be in memory. The last layer prefetches nothing.
            upcoming = self._read(reader, index + 1)
            yield layer
            release([layer])

    def _read(self, reader: ThreadPoolExecutor, index: int) -> "Future[dict[str, torch.Tensor]]":
        if index == len(self._layers):
            return Future()
        return reader.submit(self._weights.read, self._layers[index], f"{self._prefix}.{index}.")
