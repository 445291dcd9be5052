"""Puts a checkpoint's tensors into a model: exactly those that it has parameters for, leaving no parameter unset."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from accelerate import dispatch_model
from torch import nn
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.config_faults import asked_by
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import (
    build_skeleton,
    checkpoint_dtype,
    decoder_layers,
    drop_lists_of,
    drop_lists_of_model,
    read_config,
)
from drop_ray.models.families import DropLists
from drop_ray.models.files.stored_tensors import empty_pages
from drop_ray.models.quantized_base.reading import as_read
from drop_ray.models.spreading import device_map_of
from drop_ray.models.sublayers import sublayer_names
from drop_ray.models.tensor_map import Recipe, TensorMap, map_tensors

# Buffers that old checkpoints carry as tensors. Every class of transformers 5 computes them.
COMPUTED_TENSORS = re.compile(r"rotary_emb\.inv_freq$")

# What a wrapper puts in front of the names of all tensors when it is saved in place of the model.
WRAPPERS = {
    "base_model.model.": "a model with adapters of PEFT: save model.merge_and_unload()",
    "_orig_mod.": "a model of torch.compile: save the model itself (model._orig_mod)",
    "module.": "a model of DataParallel: save model.module",
}


def load_model(
    model: Checkpoint | Path | str,
    drops: DropLists | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attn_implementation: str | None = None,
    memory: Mapping[int | str, int] | None = None,
) -> PreTrainedModel:
    """Load a base or dropped checkpoint, optionally without further sub-layers, whose weights are then never read.

    `model` is an open checkpoint, or the folder or URL of one. `dtype` is that of the parameters, by default the
    checkpoint's own. `memory` replaces `device` and spreads the layers over several devices: it says how many bytes of
    the model each may hold. Raises UserError for a tensor that is missing from the checkpoint, or that the model has no
    use for: no parameter is ever left at a random value.
    """
    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
    drops = drop_lists_of(checkpoint).union(drops or DropLists())
    dtype = dtype or checkpoint_dtype(checkpoint)
    skeleton = build_skeleton(read_config(checkpoint), drops, dtype, attn_implementation)
    weights = Weights(skeleton, checkpoint)
    if memory is None:
        weights.load(skeleton, "", device)
        return skeleton
    return load_spread(skeleton, weights, device_map_of(skeleton, memory))


class Weights:
    """A checkpoint's tensors, under the names and in the shapes that a model has for them.

    Raises UserError unless the checkpoint holds every tensor of the model in its shape, and no tensor without a place.
    `tied`, `dropped` and `ignored` name tensors of the checkpoint that are not read: copies of others, those of dropped
    sub-layers, and those that no model here has a place for. Those of a quantized base have the names that they are
    read by.
    """

    def __init__(self, model: PreTrainedModel, checkpoint: Checkpoint):
        self._model = model
        self._checkpoint = as_read(checkpoint, model.dtype)
        tensor_map = map_tensors(model, self._checkpoint.tensors)
        self.tied = _tied_tensors(model, tensor_map)
        self._recipe_of = {
            name: recipe
            for recipe in tensor_map.recipes.values()
            for name in recipe.targets
            if not self.tied.issuperset(recipe.names)
        }
        self.dropped = _dropped_tensors(model, tensor_map.homeless)
        self.ignored = _ignored_tensors(model, tensor_map.homeless)
        self._check_names(*unmatched_tensors(model, tensor_map))
        expected = model.state_dict(keep_vars=True)
        for recipe in tensor_map.recipes.values():
            self._check_shapes(recipe, expected)

    def read(self, module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
        """A module's tensors by its own names, on the host, in the dtype of the skeleton's parameters.

        `prefix` leads to the module's tensors in the model, such as `model.layers.3.`
        """
        expected = module.state_dict(keep_vars=True)
        recipes = {id(recipe): recipe for name in expected if (recipe := self._recipe_of.get(prefix + name))}
        files = self._checkpoint.read(name for recipe in recipes.values() for name in recipe.names)
        tensors: dict[str, torch.Tensor] = {}
        for recipe in recipes.values():
            made = recipe.make({name: files.pop(name) for name in recipe.names}, self._model)
            tensors |= {name.removeprefix(prefix): tensor for name, tensor in made.items()}
        return {name: _converted(tensors.pop(name), expected[name].dtype) for name in list(tensors)}

    def stored_name(self, name: str) -> str:
        """Name in the files of a tensor of the model. UserError unless they have that tensor as it is."""
        recipe = self._recipe_of.get(name)
        if recipe is None or recipe.converter is not None:
            raise UserError(f"{self._checkpoint.location} has no tensor that is {name} as it is")
        return recipe.names[0]

    def load(self, module: nn.Module, prefix: str, device: torch.device | str) -> None:
        """Fill a module of the skeleton and move it to `device`."""
        assign(module, self.read(module, prefix), device)

    def _check_names(self, missing: set[str], unexpected: set[str]) -> None:
        if missing:
            if reason := _foreign_prefix(self._checkpoint.tensors):
                raise UserError(f"{self._checkpoint.location}: {reason}")
            raise UserError(
                f"{self._checkpoint.location}: {len(missing)} tensors are missing, the first is {min(missing)}; "
                "is this checkpoint complete, and its config.json the right one?"
            )
        if unexpected:
            raise UserError(
                f"{self._checkpoint.location}: {len(unexpected)} tensors have no place in the model, the first is "
                f"{min(unexpected)}; does its config.json describe these weights?"
            )

    def _check_shapes(self, recipe: Recipe, expected: Mapping[str, torch.Tensor]) -> None:
        empty = {name: torch.empty(self._checkpoint.tensors[name].shape, device="meta") for name in recipe.names}
        try:
            made = recipe.make(empty, self._model)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{self._checkpoint.location}: the tensors of {recipe.target} do not fit each other ({error}); "
                "is this checkpoint complete?"
            ) from error
        for name, tensor in made.items():
            if tensor.shape != expected[name].shape:
                asked = {*expected[name].shape} - {*tensor.shape}
                raise UserError(
                    f"{self._checkpoint.location}: {name} has shape {list(tensor.shape)}, "
                    f"config.json asks for {list(expected[name].shape)}{asked_by(self._model.config, asked)}"
                )


def unmatched_tensors(model: PreTrainedModel, tensor_map: TensorMap) -> tuple[set[str], set[str]]:
    """Model tensors that the files lack, and file tensors that the model has no use for."""
    made = {name for recipe in tensor_map.recipes.values() for name in recipe.targets}
    homeless = tensor_map.homeless
    # Parameters that share another's tensor may be absent from a checkpoint.
    missing = model.state_dict(keep_vars=True).keys() - made - model.all_tied_weights_keys.keys()
    return missing, {*homeless} - _dropped_tensors(model, homeless) - _ignored_tensors(model, homeless)


def load_spread(model: PreTrainedModel, weights: Weights, device_map: Mapping[str, int | str]) -> PreTrainedModel:
    """Fill a skeleton part by part, each on its own device, and have activations move from device to device."""
    for name, device in device_map.items():
        place(model.get_submodule(name), weights.read(model.get_submodule(name), f"{name}."), device)
    complete(model)
    # The first device is named because accelerate would take any, and tokens and logits are to be on one.
    return dispatch_model(model, dict(device_map), main_device=next(iter(device_map.values())))


def assign(module: nn.Module, tensors: dict[str, torch.Tensor], device: torch.device | str) -> None:
    """Make `tensors` the module's parameters on `device`. Buffers are moved too, and tied parameters are tied again."""
    place(module, tensors, device)
    complete(module)


def place(module: nn.Module, tensors: dict[str, torch.Tensor], device: torch.device | str | int) -> None:
    """As `assign`, for a module that may still lack tensors, such as one that it shares with another module."""
    on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    module.load_state_dict(on_device, assign=True, strict=False)
    for part in module.modules():
        for name, buffer in [*part.named_buffers(recurse=False, remove_duplicate=False)]:
            setattr(part, name, buffer.to(device))


def complete(module: nn.Module) -> None:
    """Tie the tied parameters, and raise UserError if a parameter is left without a value."""
    if isinstance(module, PreTrainedModel):
        module.tie_weights()
    left = [name for name, parameter in module.named_parameters() if parameter.is_meta]
    if left:
        raise UserError(f"tensor {left[0]} is missing from the checkpoint")
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def release(modules: Iterable[nn.Module]) -> None:
    """Give back the memory of loaded modules: their parameters return to the meta device."""
    for module in modules:
        for part in module.modules():
            for name, parameter in [*part.named_parameters(recurse=False, remove_duplicate=False)]:
                setattr(part, name, nn.Parameter(parameter.to("meta"), requires_grad=False))


def _dropped_tensors(model: PreTrainedModel, homeless: Mapping[str, str]) -> set[str]:
    """Tensors in the files that belong to sub-layers the model lacks. A base's own files may leave out `model.`"""
    prefixes = sublayer_prefixes(model, drop_lists_of_model(model))
    base = f"{model.base_model_prefix}."
    return {name for name, target in homeless.items() if target.removeprefix(base).startswith(prefixes or ("\0",))}


def sublayer_prefixes(model: PreTrainedModel, drops: DropLists) -> tuple[str, ...]:
    """What the names of the tensors of dropped sub-layers begin with, after the prefix of the base model."""
    path = layers_path(model).removeprefix(f"{model.base_model_prefix}.")
    return tuple(
        f"{path}.{index}.{name}."
        for sublayer, dropped in (("attention", drops.attn), ("mlp", drops.mlp))
        for index in dropped
        for name in sublayer_names(decoder_layers(model)[index])[sublayer]
    )


def _tied_tensors(model: PreTrainedModel, tensor_map: TensorMap) -> set[str]:
    """Tensors in the files that are another one's in the model, which the files have too: the head of a tied model."""
    recipes = tensor_map.recipes
    pairs = model.all_tied_weights_keys.items()
    return {name for copy, source in pairs if {copy, source} <= recipes.keys() for name in recipes[copy].names}


def _ignored_tensors(model: PreTrainedModel, homeless: Mapping[str, str]) -> set[str]:
    """Tensors that no model here has a place for.

    These are computed buffers, and the layers that predict further tokens (DeepSeek-V3), which lie behind the last
    decoder layer.
    """
    first, count = model.config.num_hidden_layers, getattr(model.config, "num_nextn_predict_layers", None) or 0
    extra = tuple(f"{layers_path(model)}.{first + index}." for index in range(count))
    return {
        name
        for name, target in homeless.items()
        if COMPUTED_TENSORS.search(name) or target.startswith(extra or ("\0",))
    }


def _foreign_prefix(names: Iterable[str]) -> str | None:
    """Why no tensor has its name in the model, if a wrapper was saved."""
    first = min(names, default="")
    return next(
        (
            f"its tensors, such as {first}, are those of {what}"
            for prefix, what in WRAPPERS.items()
            if first.startswith(prefix)
        ),
        None,
    )


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.dtype == dtype:
        return tensor
    return empty_pages(tuple(tensor.shape), dtype).copy_(tensor)
