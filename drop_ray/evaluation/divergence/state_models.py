"""Models that give the states after their last layer, for several drop states at once, and logits from such states."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.evaluation.divergence.branches import Branch, advance, without
from drop_ray.evaluation.divergence.output_layer import load_output, logits_of
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.finite import fault_of, first_not_finite, is_finite, state_fault, weight_fault
from drop_ray.models.loading import Weights
from drop_ray.scoring.inputs import InputRecorder
from drop_ray.scoring.scorer import Placement, load_source

States = Mapping[DropLists, torch.Tensor]
"""The state after the last layer of a micro-batch, [batch, seq_len, hidden_size], by what the model lacks."""


class StateModel(Protocol):
    """One of the two models of a comparison."""

    streams: bool
    """Whether a wave of micro-batches costs as much to read as one of them."""
    state_bytes: int
    """Bytes of the residual state of one token."""
    vocabulary: int
    """Number of logits of a token."""
    num_layers: int
    """Number of decoder layers."""

    @property
    def device(self) -> torch.device:
        """Where its logits are."""

    def states(
        self, batches: Sequence[torch.Tensor], drops: Sequence[DropLists], passed: Callable[[], None]
    ) -> list[States]:
        """States of each micro-batch of token ids, [batch, seq_len]. `passed` is called after every layer."""

    def logits(self, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [tokens, vocabulary] from states [tokens, hidden_size]. token_ids: [tokens]."""

    def fault(self, token_ids: torch.Tensor, drops: DropLists) -> str:
        """Why the logits of a sample, [1, seq_len], are not finite, with the remedy."""


class LayeredModel:
    """A checkpoint whose layers are resident, or streamed from its files; drop lists are added to its own."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: torch.dtype,
        attn_implementation: str | None,
        placement: Placement,
        device: torch.device | str = "cpu",
    ):
        self._model = build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), dtype, attn_implementation)
        weights = Weights(self._model, checkpoint)
        self._source = load_source(self._model, weights, placement, device)
        load_output(self._model, weights, device)
        self._recorder = InputRecorder(self._model)
        self.streams = self._source.streams
        self.state_bytes = self._model.config.hidden_size * dtype.itemsize
        self.vocabulary = self._model.config.vocab_size
        self.num_layers = self._model.config.num_hidden_layers

    @property
    def device(self) -> torch.device:
        return _device_of(self._model)

    @torch.inference_mode()
    def states(
        self, batches: Sequence[torch.Tensor], drops: Sequence[DropLists], passed: Callable[[], None]
    ) -> list[States]:
        # The states of a wave wait on the host: a device that cannot hold the model cannot hold them either.
        device, waiting = self.device, torch.device("cpu") if self.streams else self.device
        inputs = [self._recorder(batch.to(device)) for batch in batches]
        running = [[Branch(each.hidden.to(waiting), tuple(dict.fromkeys(drops)))] for each in inputs]
        with self._source.wave() as layers:
            for index, layer in enumerate(layers):
                for place, arguments in enumerate(each.keyword_arguments[index] for each in inputs):
                    running[place] = advance(layer, index, running[place], arguments, device, waiting)
                passed()
        return [{drops: branch.hidden for branch in found for drops in branch.members} for found in running]

    def logits(self, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return logits_of(self._model, token_ids, hidden)

    @torch.inference_mode()
    def fault(self, token_ids: torch.Tensor, drops: DropLists) -> str:
        model, inputs = self._model, self._recorder(token_ids.to(self.device))
        for module in (model.get_input_embeddings(), model.base_model.norm, model.get_output_embeddings()):
            if name := _bad_weight(model, module):
                return weight_fault(name, model.dtype)
        branches = [Branch(inputs.hidden, (drops,))]
        with self._source.wave() as layers:
            for index, layer in enumerate(layers):
                arguments = inputs.keyword_arguments[index]
                branches = advance(layer, index, branches, arguments, self.device, self.device)
                if not is_finite(branches[0].hidden):
                    with without(layer, index in drops.attn, index in drops.mlp):
                        name = first_not_finite(layer.named_parameters())
                    if name is not None:
                        return weight_fault(f"{model.base_model_prefix}.layers.{index}.{name}", model.dtype)
                    return state_fault(f"the residual state after layer {index}", model.dtype)
        return state_fault("the output layer", model.dtype)


class WholeModel:
    """A loaded model that is called as it is, such as a quantized one; it lacks already what it is to lack."""

    streams = False

    def __init__(self, model: PreTrainedModel):
        self._model = model.eval()
        self.state_bytes = model.config.hidden_size * model.dtype.itemsize
        self.vocabulary = model.config.vocab_size
        self.num_layers = model.config.num_hidden_layers

    @property
    def device(self) -> torch.device:
        return _device_of(self._model)

    @torch.inference_mode()
    def states(
        self, batches: Sequence[torch.Tensor], drops: Sequence[DropLists], passed: Callable[[], None]
    ) -> list[States]:
        del passed
        return [dict.fromkeys(drops, self._state(batch.to(self.device))) for batch in batches]

    def logits(self, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return logits_of(self._model, token_ids, hidden)

    def fault(self, token_ids: torch.Tensor, drops: DropLists) -> str:
        del drops
        return fault_of(self._model, token_ids)

    def _state(self, token_ids: torch.Tensor) -> torch.Tensor:
        with _without_norm(self._model):
            found: torch.Tensor = self._model.base_model(input_ids=token_ids, use_cache=False).last_hidden_state
        return found


@contextmanager
def _without_norm(model: PreTrainedModel) -> Iterator[None]:
    decoder = model.base_model
    norm, decoder.norm = decoder.norm, nn.Identity()
    try:
        yield
    finally:
        decoder.norm = norm


def _device_of(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens."""
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _bad_weight(model: PreTrainedModel, module: nn.Module) -> str | None:
    """The whole name of a module's first weight that is not finite."""
    prefix = next(name for name, found in model.named_modules() if found is module)
    name = first_not_finite(module.named_parameters())
    return None if name is None else f"{prefix}.{name}"
