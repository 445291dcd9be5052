"""Builds a (dropped) model from a checkpoint folder: first without weights, then with exactly the tensors it needs."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models import modeling_dropped
from drop_ray.models.checkpoint import Checkpoint, empty_pages, open_checkpoint
from drop_ray.models.families import DropLists, check_drop_lists, family_of
from drop_ray.models.modeling_dropped import drop_indices, sublayer_names, with_drops

# Buffers that old checkpoints carry as tensors; every class of transformers 5 computes them.
COMPUTED_TENSORS = re.compile(r"rotary_emb\.inv_freq$")


def read_config(checkpoint: Checkpoint) -> Any:
    """The family's own transformers configuration, whether the checkpoint is a base or a dropped model."""
    family = family_of(checkpoint.config.get("architectures"), f"model.path: {checkpoint.folder}")
    fields = {key: value for key, value in checkpoint.config.items() if key not in ("model_type", "auto_map")}
    config = AutoConfig.for_model(family, **fields)
    config.architectures = [name.removeprefix("Dropped") for name in checkpoint.config["architectures"]]
    return config


def drop_lists_of(checkpoint: Checkpoint) -> DropLists:
    """What a checkpoint's own config says is dropped; empty for a base model."""
    return DropLists(
        tuple(drop_indices(checkpoint.config.get("drop_attn_list"))),
        tuple(drop_indices(checkpoint.config.get("drop_mlp_list"))),
    )


def drop_lists_of_model(model: PreTrainedModel) -> DropLists:
    """What a loaded model lacks; empty for a model of transformers' own classes."""
    config = model.config
    return DropLists(
        tuple(drop_indices(getattr(config, "drop_attn_list", None))),
        tuple(drop_indices(getattr(config, "drop_mlp_list", None))),
    )


def build_skeleton(config: Any, drops: DropLists, dtype: torch.dtype, attn_implementation: str) -> PreTrainedModel:
    """The model with the sub-layers of `drops` absent, parameters on the meta device, buffers real.

    config: the family's own, as `read_config` gives it.
    """
    check_drop_lists(drops, config.num_hidden_layers, "drop lists")
    config = copy.deepcopy(config)
    architecture = f"Dropped{config.architectures[0]}"
    config = with_drops(config, drops.attn, drops.mlp)
    config.architectures = [architecture]
    config._attn_implementation = attn_implementation
    model_class = getattr(modeling_dropped, architecture)
    with init_empty_weights(include_buffers=False):
        return model_class._from_config(config, dtype=dtype).eval()


def load_model(
    folder: Path | str,
    drops: DropLists | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Load a base or dropped checkpoint, optionally without further sub-layers, whose weights are then never read.

    dtype: of the parameters; None is the checkpoint's own. Raises UserError for a tensor that is missing from the
    checkpoint or that the model has no use for: no parameter is ever left at a random value.
    """
    checkpoint = open_checkpoint(folder)
    drops = drop_lists_of(checkpoint).union(drops or DropLists())
    model = build_skeleton(read_config(checkpoint), drops, dtype or checkpoint_dtype(checkpoint), attn_implementation)
    check_tensors(model, checkpoint)
    load_tensors(model, checkpoint, "", device)
    return model


def checkpoint_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype that config.json states; float32 where it states none, as transformers has it."""
    name = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "float32"
    return parse_dtype(name)


def parse_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UserError(f"model.dtype: {name} is not a floating point type; use bfloat16, float16 or float32")
    return dtype


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of a causal language model; replace them by assigning to `model.base_model.layers`."""
    layers: nn.ModuleList = model.base_model.layers
    return layers


def dropped_prefixes(model: PreTrainedModel, drops: DropLists) -> tuple[str, ...]:
    """Beginnings of the names of all tensors that the dropped sub-layers own in a full checkpoint."""
    layers = f"{model.base_model_prefix}.layers"
    return tuple(
        f"{layers}.{index}.{name}."
        for sublayer, dropped in (("attention", drops.attn), ("mlp", drops.mlp))
        for index in dropped
        for name in sublayer_names(decoder_layers(model)[index])[sublayer]
    )


def check_tensors(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """UserError unless the checkpoint holds every tensor of the model, in its shape, and none without a place."""
    expected = model.state_dict(keep_vars=True)
    ignored = dropped_prefixes(model, drop_lists_of_model(model))
    found = {
        name
        for name in checkpoint.tensors
        if not name.startswith(ignored or ("\0",)) and not COMPUTED_TENSORS.search(name)
    }
    missing = sorted(expected.keys() - found - tied_tensors(model))
    if missing:
        raise UserError(
            f"{checkpoint.folder}: {len(missing)} tensors are missing, the first is {missing[0]}; "
            "is this checkpoint complete, and its config.json the right one?"
        )
    unexpected = sorted(found - expected.keys())
    if unexpected:
        raise UserError(
            f"{checkpoint.folder}: {len(unexpected)} tensors have no place in the model, the first is {unexpected[0]}; "
            "does its config.json describe these weights?"
        )
    for name in sorted(found):
        if checkpoint.tensors[name].shape != tuple(expected[name].shape):
            raise UserError(
                f"{checkpoint.folder}: {name} has shape {list(checkpoint.tensors[name].shape)}, "
                f"config.json asks for {list(expected[name].shape)}"
            )


def tied_tensors(model: PreTrainedModel) -> set[str]:
    """Names of parameters that share another's tensor, and so may be absent from a checkpoint."""
    if not model.config.tie_word_embeddings:
        return set()
    return set(model._tied_weights_keys or ())


def load_tensors(module: nn.Module, checkpoint: Checkpoint, prefix: str, device: torch.device | str) -> None:
    """Fill a module of the skeleton from the tensors named `prefix` + its own names, and move it to `device`."""
    assign(module, read_tensors(module, checkpoint, prefix), device)


def read_tensors(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> dict[str, torch.Tensor]:
    """A module's tensors from the checkpoint, on the host, in the dtype of the skeleton's parameters."""
    expected = module.state_dict(keep_vars=True)
    names = [name for name in expected if prefix + name in checkpoint.tensors]
    tensors = checkpoint.read(prefix + name for name in names)
    return {name: _converted(tensors.pop(prefix + name), expected[name].dtype) for name in names}


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.dtype == dtype:
        return tensor
    return empty_pages(tuple(tensor.shape), dtype).copy_(tensor)


def assign(module: nn.Module, tensors: dict[str, torch.Tensor], device: torch.device | str) -> None:
    """Make `tensors` the module's parameters on `device`; buffers follow, tied parameters are tied again."""
    on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    module.load_state_dict(on_device, assign=True, strict=False)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
    if isinstance(module, PreTrainedModel):
        module.tie_weights()
    left = [name for name, parameter in module.named_parameters() if parameter.is_meta]
    if left:
        raise UserError(f"tensor {left[0]} is missing from the checkpoint")
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def release(modules: Iterable[nn.Module]) -> None:
    """Give the memory of loaded modules back: their parameters return to the meta device."""
    for module in modules:
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    part._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)
