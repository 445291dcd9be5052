"""What gptqmodel must know of a dropped model: where its linears are, and how each layer is called.

gptqmodel has such a definition for each family, from which that of a dropped model is derived. It lists the linears
that the layers have; of experts, that of the family does. What each layer is called with is recorded from the model
itself, since gptqmodel would replay the arguments of layer 0 to all layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.sublayers import sublayer_names
from drop_ray.quantization.gptqmodel_private import (
    add_definition,
    definition_of,
    device_of,
    moved,
    split_experts,
    tree_of,
)
from drop_ray.quantization.layer_calls import record_calls

# The linear that ends a sub-layer: its inputs come from the others', so it is quantized after them.
LAST = ("o_proj", "down_proj")


def register(model_type: str, full: PreTrainedModel, skeleton: PreTrainedModel, seq_len: int) -> bool:
    """Teach gptqmodel the model type of a dropped checkpoint. Returns whether it is one of a mixture of experts.

    `model_type` is the family's. `full` is the base model and `skeleton` the model to be quantized, both without
    weights.
    """
    family = definition_of(model_type)
    dropped_type = type(skeleton.config).model_type
    has_experts = bool(getattr(family, "dynamic_expert_index", None))
    if has_experts:
        split_experts(dropped_type)
    tree = tree_of(family) if has_experts else ["model", "layers", "#", _module_tree(decoder_layers(full)[0])]
    fields = {
        "module_tree": tree,
        # The modules of dropped sub-layers are not there.
        "layer_modules_strict": False,
        # An output projection takes scales from the values' only where each head has its own.
        "awq_scale_optimize_shape_dependent_modules": ["self_attn.o_proj"],
        "awq_preserve_explicit_position_embeddings": True,
        "shared_input_verified_model_types": frozenset({dropped_type}),
        "calls": record_calls(skeleton, seq_len),
    }
    add_definition(dropped_type, type(f"Dropped{family.__name__}", (_DroppedDefinition, family), fields))
    return has_experts


class _DroppedDefinition:
    """Mixed into the family's own definition."""

    calls: Sequence[Mapping[str, Any]]

    def prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        return super().prepare_dataset(*args, **{**kwargs, "calibration_data_min_length": 1})  # type: ignore[misc]

    def prepare_layer_replay_kwargs(
        self, layer: nn.Module, layer_input: Any, additional_inputs: dict[str, Any], target_device: torch.device
    ) -> dict[str, Any]:
        del layer_input
        return {**additional_inputs, **moved(self._call(layer), target_device)}

    def awq_get_modules_for_scaling(
        self, module: nn.Module, input_feat: dict[str, torch.Tensor], module_kwargs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Groups of linears whose inputs are scaled, each with the module before it.

        That module takes the inverse scale.
        """
        groups = super().awq_get_modules_for_scaling(module, input_feat, module_kwargs)  # type: ignore[misc]
        call = moved(self._call(module), device_of(module))
        return [{**group, "kwargs": call} for group in groups]

    def _call(self, layer: nn.Module) -> dict[str, Any]:
        layers = decoder_layers(self.model)  # type: ignore[attr-defined]
        index = next(index for index, other in enumerate(layers) if other is layer)
        return dict(self.calls[index])


def _module_tree(layer: nn.Module) -> dict[str, tuple[str, ...]]:
    """The linears of a layer in gptqmodel's notation.

    `!` marks what is not quantized, the number is the order within a sub-layer, and linears with one `in` have the same
    input.
    """
    tree: dict[str, tuple[str, ...]] = {}
    for names in sublayer_names(layer).values():
        norm, sublayer = names[0], next(name for name in names if "norm" not in name)
        if norm != sublayer:
            tree[norm] = (f"{norm}:!",)
        children = layer.get_submodule(sublayer).named_children()
        linears = [name for name, module in children if isinstance(module, nn.Linear)]
        tree[sublayer] = tuple(f"{name}:1" if name in LAST else f"{name}:0:in=x" for name in linears)
    return tree
