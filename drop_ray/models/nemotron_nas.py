"""The `nemotron-nas` checkpoint of a dropped Llama: a format in which each layer states what it has.

vLLM serves it by its own class `DeciLMForCausalLM`, without drop_ray. The class is a Llama, so that a family whose
layers are Llama's can be written. It has no layer 0 without attention: there it begins to add up the residual.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models import configuration_decilm
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.configuration_decilm import DeciLMConfig
from drop_ray.models.dropped import read_config
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import without_code
from drop_ray.models.plain import OTHER_FORMATS_FIELDS
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM

# What sets their layers apart from Llama's, by architecture, as the fields that vLLM reads it from.
FAMILIES = {
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {},
    "Qwen2ForCausalLM": {"attention_bias": False, "qkv_bias": True},
}
CODE = Path(configuration_decilm.__file__)
# Intermediate sizes that `ffn_mult` can state are multiples of this.
MULTIPLE = 256
# Fields of config.json that say what its layers have, and nothing of the family.
OF_THE_FORMAT = ("model_type", "architectures", "auto_map", "block_configs", "qkv_bias", STORED_FORM)


def nemotron_nas_config(checkpoint: Checkpoint, drops: DropLists) -> dict[str, Any]:
    """The fields of config.json. UserError, with the reason, if the model without `drops` has no such checkpoint.

    `drops` names all sub-layers that are to be absent, also those that the checkpoint lacks already.
    """
    if checkpoint.whole is not None:
        raise _refusal("it is a language model alone, and this one is inside a multimodal model")
    fields = {field: value for field, value in checkpoint.config.items() if field not in OTHER_FORMATS_FIELDS}
    config = read_config(replace(checkpoint, config=without_code(fields)))
    architecture = config.architectures[0]
    if architecture not in FAMILIES:
        raise _refusal(f"its layers are Llama's, and a {architecture} has others; these fit: {', '.join(FAMILIES)}")
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()) or _window(config):
        raise _refusal("its attention looks at all tokens, and this model's has a window")
    if 0 in drops.attn:
        raise _refusal("attention of layer 0 must stay, where vLLM's class begins to add up the residual")
    whole = config.to_dict()
    known = DeciLMConfig().to_dict().keys() - {"model_type", "block_configs", "transformers_version"}
    made = {
        # Every field is stated: what a family's own class has as a default may not be Llama's.
        **{field: whole[field] for field in known if field in whole},
        **FAMILIES[architecture],
        **({STORED_FORM: fields[STORED_FORM]} if fields.get(STORED_FORM) else {}),
        "model_type": DeciLMConfig.model_type,
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {"AutoConfig": f"{CODE.stem}.{DeciLMConfig.__name__}"},
        "block_configs": [_block(config, layer, drops) for layer in range(config.num_hidden_layers)],
    }
    return {field: value for field, value in made.items() if value is not None}


def read_nemotron_nas(folder: Path) -> tuple[Any, DropLists]:
    """The family's configuration and the drop lists of a checkpoint, from the fields that vLLM reads.

    UserError for one whose layers differ by more than by what they lack.
    """
    config = DeciLMConfig.from_pretrained(folder)
    blocks = config.block_configs or []
    if len(blocks) != config.num_hidden_layers:
        raise UserError(f"{folder}: block_configs has {len(blocks)} layers, not {config.num_hidden_layers}")
    parts = {name: [block[name] for block in blocks if not block[name]["no_op"]] for name in ("attention", "ffn")}
    fields = {
        "num_key_value_heads": {config.num_attention_heads // part["n_heads_in_group"] for part in parts["attention"]},
        "intermediate_size": {_width(part, config.hidden_size) for part in parts["ffn"]},
        "hidden_act": {part.get("hidden_act", config.hidden_act) for part in parts["ffn"]},
    }
    for field, values in fields.items():
        if len(values) > 1:
            raise UserError(
                f"{folder}: block_configs has layers of unequal {field}: {', '.join(map(str, sorted(values)))}"
            )
    architecture = "Qwen2ForCausalLM" if getattr(config, "qkv_bias", False) else "LlamaForCausalLM"
    stated = {field: value for field, value in config.to_dict().items() if field not in OF_THE_FORMAT}
    found = {field: value for field, values in fields.items() for value in values}
    made = base_config_class(architecture)(**{**stated, **found})
    made.architectures = [architecture]
    attn, mlp = (
        tuple(layer for layer, block in enumerate(blocks) if block[name]["no_op"]) for name in ("attention", "ffn")
    )
    return made, DropLists(attn, mlp)


def _width(ffn: Mapping[str, Any], hidden_size: int) -> int:
    """The intermediate size of a layer's MLP, of which `ffn_mult` is another spelling that goes before."""
    if "ffn_mult" not in ffn:
        return int(ffn["intermediate_size"])
    return math.ceil(int(2 * ffn["ffn_mult"] * hidden_size / 3) / MULTIPLE) * MULTIPLE


def _block(config: Any, layer: int, drops: DropLists) -> dict[str, dict[str, Any]]:
    # The fields of NVIDIA's own checkpoints, all of which llama.cpp's converter asks for.
    heads = config.num_attention_heads // config.num_key_value_heads
    no_attention, no_mlp = layer in drops.attn, layer in drops.mlp
    attention = {
        "no_op": no_attention,
        "n_heads_in_group": None if no_attention else heads,
        "replace_with_linear": False,
    }
    ffn: dict[str, Any] = {"no_op": no_mlp, "ffn_mult": None, "replace_with_linear": False}
    if not no_mlp:
        width, act = config.intermediate_size, config.hidden_act
        mult = {} if width % MULTIPLE else {"ffn_mult": 3 * width / (2 * config.hidden_size)}
        ffn = {"no_op": False, "intermediate_size": width, "hidden_act": act, "replace_with_linear": False, **mult}
    return {"attention": attention, "ffn": ffn}


def _window(config: Any) -> bool:
    """Whether a sliding window is on; Qwen2 states one that it does not use."""
    return bool(getattr(config, "sliding_window", None)) and bool(getattr(config, "use_sliding_window", True))


def _refusal(reason: str) -> UserError:
    return UserError(f"no nemotron-nas checkpoint: {reason}; export as `dropped`")
