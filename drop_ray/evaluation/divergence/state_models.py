"""Models that give the states after their last layer, for several drop states at once, and logits from such states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.evaluation.divergence.branches import Branch, advance
from drop_ray.evaluation.divergence.kept_states import KeptStates
from drop_ray.evaluation.divergence.output_layer import load_output, logits_of
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import layers_path, parts_around_layers, state_of
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.finite import fault_of, first_not_finite, is_finite, state_fault, weight_fault
from drop_ray.models.layer_states import without
from drop_ray.models.loading import Weights
from drop_ray.models.tracing import traits_of_model
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
        kept: KeptStates | None = None,
    ):
        """kept: takes up the states that it is for, which are then not computed again."""
        self._kept = kept
        self._model = build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), dtype, attn_implementation)
        weights = Weights(self._model, checkpoint)
        self._source = load_source(self._model, weights, placement, device)
        load_output(self._model, weights, device)
        self._recorder = InputRecorder(self._model)
        self._has_middle = traits_of_model(self._model).has_middle
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
        known = [self._known(batch, drops, waiting) for batch in batches]
        begun = [
            self._begin(batch.to(device), [one for one in drops if one not in found], waiting)
            for batch, found in zip(batches, known, strict=True)
        ]
        running, arguments = [branches for branches, _ in begun], [each for _, each in begun]
        with self._source.wave() as layers:
            for index, layer in enumerate(layers):
                for place, each in enumerate(arguments):
                    running[place] = advance(
                        layer, index, running[place], each[index], device, waiting, self._has_middle
                    )
                passed()
        for batch, states, branches in zip(batches, known, running, strict=True):
            states.update({one: branch.hidden for branch in branches for one in branch.members})
            if self._kept is not None and self._kept.drops in states:
                self._kept.keep(batch, states[self._kept.drops])
        return [*known]

    def _known(
        self, token_ids: torch.Tensor, drops: Sequence[DropLists], waiting: torch.device
    ) -> dict[DropLists, torch.Tensor]:
        """What need not be computed."""
        if self._kept is None or self._kept.drops not in drops:
            return {}
        found = self._kept.find(token_ids)
        return {} if found is None else {self._kept.drops: found.to(waiting)}

    def _begin(
        self, token_ids: torch.Tensor, drops: Sequence[DropLists], waiting: torch.device
    ) -> tuple[list[Branch], Sequence[Mapping[str, Any]]]:
        """The one branch before layer 0, which all drop states have, and the arguments of each layer's call."""
        inputs = self._recorder(token_ids)
        return [Branch(inputs.hidden.to(waiting), tuple(dict.fromkeys(drops)))], inputs.keyword_arguments

    def logits(self, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return logits_of(self._model, token_ids, hidden)

    @torch.inference_mode()
    def fault(self, token_ids: torch.Tensor, drops: DropLists) -> str:
        model, inputs = self._model, self._recorder(token_ids.to(self.device))
        for module in (*(module for _, module in parts_around_layers(model)), model.get_output_embeddings()):
            if name := _bad_weight(model, module):
                return weight_fault(name, model.dtype)
        branches = [Branch(inputs.hidden, (drops,))]
        with self._source.wave() as layers:
            for index, layer in enumerate(layers):
                arguments = inputs.keyword_arguments[index]
                branches = advance(layer, index, branches, arguments, self.device, self.device, self._has_middle)
                if not is_finite(branches[0].hidden):
                    with without(layer, index in drops.attn, index in drops.mlp):
                        name = first_not_finite(layer.named_parameters())
                    if name is not None:
                        return weight_fault(f"{layers_path(model)}.{index}.{name}", model.dtype)
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
        found: list[torch.Tensor] = []
        last = decoder_layers(self._model)[-1]
        hook = last.register_forward_hook(lambda _, __, output: found.append(state_of(output)))
        try:
            self._model.base_model(input_ids=token_ids, use_cache=False)
        finally:
            hook.remove()
        return found[0]


def _device_of(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens."""
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _bad_weight(model: PreTrainedModel, module: nn.Module) -> str | None:
    """The whole name of a module's first weight that is not finite."""
    prefix = next(name for name, found in model.named_modules() if found is module)
    name = first_not_finite(module.named_parameters())
    return None if name is None else f"{prefix}.{name}"
