"""Which models llama.cpp computes rightly from a GGUF file of its architecture `deci`, the form of `nemotron-nas`.

Its converter takes more. What it writes of these was compared with our logits; the reasons are in its files
`conversion/deci.py` (the converter) and `src/models/deci.cpp` (the graph).
"""

from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import read_config
from drop_ray.models.families import DropLists
from drop_ray.models.nemotron_nas import MULTIPLE, nemotron_nas_config
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM
from drop_ray.text.layer_ranges import layer_ranges

ROPES = ("default", "llama3")


def check_gguf(checkpoint: Checkpoint, drops: DropLists) -> None:
    """UserError, with the reason, if llama.cpp cannot compute the model without `drops`.

    `drops` names all sub-layers that are to be absent, also those that the checkpoint lacks already.
    """
    nemotron_nas_config(checkpoint, drops)  # which refuses what that format cannot have
    if checkpoint.config.get(STORED_FORM):
        raise _refusal("its weights are stored quantized")
    _check_layers(read_config(checkpoint).num_hidden_layers, drops)
    _check_config(read_config(checkpoint))


def _check_layers(count: int, drops: DropLists) -> None:
    alone = tuple(layer for layer in drops.mlp if layer not in drops.attn)
    if alone:
        raise _refusal(
            f"where a layer lacks its MLP alone (here {layer_ranges(alone)}), llama.cpp passes over the attention; "
            "drop attention, or whole blocks"
        )
    if count - 1 in drops.mlp:
        raise _refusal(f"llama.cpp ends with an error if the last layer (here {count - 1}) has no MLP")


def _check_config(config: Any) -> None:
    heads, width = config.num_attention_heads, config.intermediate_size
    if width % MULTIPLE:
        raise _refusal(
            f"its converter knows widths of MLPs that are multiples of {MULTIPLE}, and this model's is {width}"
        )
    if (getattr(config, "head_dim", None) or config.hidden_size // heads) * heads != config.hidden_size:
        raise _refusal("its converter takes the hidden size over the number of heads for the size of a head")
    if config.hidden_act != "silu":
        raise _refusal(f"its graph has silu for the MLP, and this model has {config.hidden_act}")
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    if rope not in ROPES:
        raise _refusal(f"its converter leaves out the scaling of positions by {rope}")


def _refusal(reason: str) -> UserError:
    return UserError(f"no GGUF file for llama.cpp: {reason}")
