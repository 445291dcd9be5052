"""Whether the fields of a config.json can describe a model at all, before any class of transformers reads them.

The classes check some types, and let other values through to code that fails far from the field, or never ends. A
field that is absent is left to them, and so is null where they have a meaning for it. config_faults.py says what they
find.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from drop_ray.errors import UserError

# Counts decide how many modules are built. Each bound is more than any model has, and what is built ends in seconds.
MOST_LAYERS, MOST, MOST_EXPERTS_IN_ALL, WIDEST = 512, 1 << 12, 1 << 17, 1 << 24
LONGEST = 1 << 31
LARGEST_INTEGER, LARGEST_FLOAT = 1 << 63, 3.4e38
WIDTHS = r"\w+_(size|dim|rank)|n_embd|n_inner|d_model|d_ff"
LAYERS = "num_hidden_layers"
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
ROPE = ("rope_parameters", "rope_scaling")


@dataclass(frozen=True)
class Rule:
    """What the value of a field may be."""

    fields: re.Pattern[str]
    """Names of the fields, matched as a whole."""
    fits: Callable[[Any], bool]
    """Whether a value is one."""
    text: str
    """What such a value is, for the message."""
    takes_null: bool
    """Whether null stands for a default, or the want of the thing; else no class has a meaning for it."""


def _rule(fields: str, fits: Callable[[Any], bool], text: str, takes_null: bool = True) -> Rule:
    return Rule(re.compile(fields), fits, text, takes_null)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _each(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Such a value, or a list of them: some families state a size for each layer."""
    return lambda value: all(map(fits, value)) if isinstance(value, list) else fits(value)


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_object_of_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def _list_of_positive(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_positive, value))


def _is_width(value: Any) -> bool:
    # The widths of some state-space models are computed where config.json says so.
    return value == "auto" or _whole(0, WIDEST)(value)


# The first rule that names a field is the field's.
RULES = (
    _rule("architectures", _list_of(str), "a list of names of classes"),
    _rule("model_type", _is(str), "the name of a family"),
    _rule("dtype|torch_dtype", _is_dtype, "the name of a type, such as bfloat16"),
    _rule(
        "quantization_config|text_config|vision_config|audio_config|rope_parameters|rope_scaling",
        _is(dict),
        "an object",
    ),
    _rule("layer_types", _list_of(str), "a list of kinds of layers"),
    _rule("tie_word_embeddings|use_cache|use_sliding_window", _is(bool), "true or false"),
    _rule("num_hidden_layers", _whole(1, MOST_LAYERS), f"a whole number from 1 to {MOST_LAYERS}"),
    _rule("num_attention_heads", _each(_whole(1, MOST)), f"a whole number from 1 to {MOST}"),
    _rule("num_key_value_heads", _each(_whole(1, MOST)), f"a whole number from 1 to {MOST}"),
    _rule("hidden_size|vocab_size|head_dim", _whole(1, WIDEST), f"a whole number from 1 to {WIDEST}"),
    _rule("num_nextn_predict_layers|first_k_dense_replace", _whole(0, MOST), f"a whole number from 0 to {MOST}"),
    _rule("max_position_embeddings|n_positions|n_ctx", _whole(1, LONGEST), f"a whole number from 1 to {LONGEST}"),
    _rule("sliding_window|attention_chunk_size", _each(_whole(0, LONGEST)), f"a whole number from 0 to {LONGEST}"),
    _rule(r"\w+_token_ids?", _each(_whole(-1, LONGEST)), "the number of a token, or a list of them"),
    _rule("rope_theta|query_pre_attn_scalar", _is_positive, "a number above 0"),
    _rule(
        r"num_\w+|n_(routed|shared)_experts|n_group|topk_group|n_(layer|head)s?",
        _each(_whole(0, MOST)),
        f"a whole number from 0 to {MOST}",
    ),
    # What every forward pass of these families computes with.
    _rule("(mamba_)?chunk_size", _whole(1, LONGEST), f"a whole number from 1 to {LONGEST}", takes_null=False),
    _rule("time_step_limit", _is(list), "a list of two numbers", takes_null=False),
    _rule(
        "(attention_in|attention_out|embedding|key|lm_head|residual|ssm_in|ssm_out)_multiplier|logits_scaling",
        _is_number,
        "a number",
        takes_null=False,
    ),
    _rule("block_auto_adjust_ff_dim", _is(bool), "true or false"),  # of LFM2: whether a width is made to fit
    _rule(
        WIDTHS,
        _each(_is_width),
        f"a whole number from 0 to {WIDEST}",
    ),
)
# Of the objects that scale rotary embeddings. Some families have one for each kind of layer. An embedding without
# scaling is one without the object, or of the type `default`.
ROPE_RULES = (
    _rule("rope_type|type", _is(str), "the name of a kind of scaling", takes_null=False),
    _rule("rope_theta", _is_positive, "a number above 0", takes_null=False),
    _rule("factor|original_max_position_embeddings", _is_positive, "a number above 0"),
    _rule("attention_factor|beta_fast|beta_slow|(low|high)_freq_factor", _is_positive, "a number above 0"),
    _rule("mscale|mscale_all_dim|partial_rotary_factor", _is_number, "a number"),
    _rule("truncate", _is(bool), "true or false"),
    _rule("short_factor|long_factor", _list_of_positive, "a list of numbers above 0"),
)
# Of the objects that describe towers for images and sound: what decides how many modules are built, and how wide.
TOWERS = ("vision_config", "audio_config")
TOWER_RULES = (
    _rule("model_type", _is(str), "the name of a family"),
    _rule("num_hidden_layers|num_layers|depth", _whole(0, MOST_LAYERS), f"a whole number from 0 to {MOST_LAYERS}"),
    _rule("hidden_size|intermediate_size", _whole(1, WIDEST), f"a whole number from 1 to {WIDEST}"),
)
# Of `quantization_config` and the objects in it, as far as bases in FP8, MXFP4 and compressed-tensors have them.
STORED_FORM = "quantization_config"
STORED_RULES = (
    _rule("quant_method|fmt|activation_scheme|format|quantization_status|strategy|type", _is(str), "a name"),
    _rule("modules_to_not_convert|ignore|targets", _list_of(str), "a list of names"),
    _rule("config_groups", _is_object_of_objects, "an object with an object for each group"),
    _rule("weights|input_activations|output_activations", _is(dict), "an object"),
    _rule("num_bits", _whole(1, 64), "a whole number of bits"),
    _rule("group_size", _whole(-1, WIDEST), f"a whole number from -1 to {WIDEST}"),
    _rule("symmetric", _is(bool), "true or false"),
    _rule("dynamic", lambda value: isinstance(value, bool) or value == "local", "true, false or local"),
    _rule("actorder", _is(bool, str), "true, false or a name"),
)


def check_fields(config: Mapping[str, Any], what: str) -> None:
    """UserError, which begins with `what`, for a field that no model has so."""
    for path, value in _unusable(config, ""):
        raise UserError(f"{what}: {path} is {shown(value)}, which is not a number that a tensor holds")
    _check(config, RULES, what, "")
    rope: Any
    for field in ROPE:
        rope = config.get(field) or {}
        _check_rope(rope, what, field)
        for name, part in rope.items():
            if isinstance(part, dict):
                _check_rope(part, what, f"{field}.{name}")
    _check_stored_form(config.get(STORED_FORM) or {}, what, STORED_FORM)
    layers, experts = config.get(LAYERS) or 0, [count for name in EXPERTS if type(count := config.get(name)) is int]
    if layers * max(experts, default=0) > MOST_EXPERTS_IN_ALL:
        raise UserError(
            f"{what}: {LAYERS} is {layers}, with {max(experts)} experts each; a model has up to {MOST_EXPERTS_IN_ALL} "
            "experts in all"
        )
    if isinstance(config.get("text_config"), dict):
        check_fields(config["text_config"], f"{what}: text_config")
    for tower in TOWERS:
        if isinstance(config.get(tower), dict):
            _check(config[tower], TOWER_RULES, what, f"{tower}.")


def _check(values: Mapping[str, Any], rules: tuple[Rule, ...], what: str, prefix: str) -> None:
    for field, value in values.items():
        rule = next((rule for rule in rules if rule.fields.fullmatch(field)), None)
        if rule is None or (value is None and rule.takes_null):
            continue
        if value is None:
            raise UserError(f"{what}: {prefix}{field} is None; leave it out, or give the model's")
        if not rule.fits(value):
            raise UserError(f"{what}: {prefix}{field} is {shown(value)}, which is not {rule.text}")


def _check_rope(rope: Mapping[str, Any], what: str, field: str) -> None:
    if "su" in (rope.get("type"), rope.get("rope_type")):
        raise UserError(f"{what}: {field} has the type su, which is called longrope now; write that")
    _check(rope, ROPE_RULES, what, f"{field}.")


def _check_stored_form(fields: Mapping[str, Any], what: str, path: str) -> None:
    _check(fields, STORED_RULES, what, f"{path}.")
    for name, part in fields.items():
        if isinstance(part, dict):
            _check_stored_form(part, what, f"{path}.{name}")


def _unusable(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Numbers that no tensor can hold, with where they are. Infinity is a limit in some families."""
    if isinstance(value, float) and (math.isnan(value) or LARGEST_FLOAT < abs(value) < math.inf):
        yield path, value
    if type(value) is int and abs(value) >= LARGEST_INTEGER:
        yield path, value
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _unusable(inner, f"{path}.{key}" if path else str(key))


def shown(value: Any) -> str:
    """A value of any length in a message."""
    return repr(value)[:60]
