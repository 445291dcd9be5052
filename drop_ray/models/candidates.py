"""Which sub-layers of a model can be dropped: not every layer has both, and some are needed by other layers."""

from torch import nn

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.models.modeling_dropped import CONSTANT
from drop_ray.models.sublayers import find_layers, sublayer_names
from drop_ray.models.transformers_private import all_layer_types


def layers_of(model: nn.Module) -> Layers:
    """What the layers of a base model have, which may be a skeleton, and lack sub-layers itself."""
    lacking, types = absent(model), all_layer_types(model.config)
    count = len(find_layers(model))
    kinds = tuple("" if layer in lacking.attn else kind for layer, kind in enumerate(types[:count]))
    attending = tuple(layer for layer, kind in enumerate(kinds) if kind not in ("", *CONSTANT))
    return Layers(count, lacking, tuple(sorted(needed_layers(model))), kinds, attending)


def candidates(model: nn.Module) -> DropLists:
    """The sub-layers that can be dropped from a base model, which may be a skeleton."""
    layers, lacking, needed = range(len(find_layers(model))), absent(model), needed_layers(model)
    return DropLists(
        tuple(layer for layer in layers if layer not in lacking.attn and layer not in needed),
        tuple(layer for layer in layers if layer not in lacking.mlp),
    )


def absent(model: nn.Module) -> DropLists:
    """The sub-layers that the family's layers do not have: some have a token mixer only, some an MLP only."""
    names = [sublayer_names(layer) for layer in find_layers(model)]
    attn, mlp = ([layer for layer, lists in enumerate(names) if not lists[kind]] for kind in ("attention", "mlp"))
    return DropLists(tuple(attn), tuple(mlp))


def needed_layers(model: nn.Module) -> frozenset[int]:
    """The layers whose attention must stay, because later layers read its keys and values (Gemma 3n, Gemma 4)."""
    parts = [(index, part) for index, layer in enumerate(find_layers(model)) for part in layer.modules()]
    readers = [part for _, part in parts if getattr(part, "is_kv_shared_layer", False)]
    return frozenset(
        index
        for index, part in parts
        if getattr(part, "store_full_length_kv", False) and any(_reads(reader, index, part) for reader in readers)
    )


def _reads(reader: nn.Module, index: int, source: nn.Module) -> bool:
    """Gemma 3n names the layer whose keys and values it reads, Gemma 4 reads the last ones of its own kind."""
    number = getattr(reader, "kv_shared_layer_index", None)
    if number is not None:
        return bool(number == getattr(source, "layer_idx", index))
    return bool(getattr(reader, "layer_type", None) == getattr(source, "layer_type", None))


def only(drops: DropLists, allowed: DropLists) -> DropLists:
    """The sub-layers of `drops` that are in `allowed` too."""
    return DropLists(
        tuple(layer for layer in drops.attn if layer in allowed.attn),
        tuple(layer for layer in drops.mlp if layer in allowed.mlp),
    )
