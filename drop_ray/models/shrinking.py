"""Makes a configuration small, so that a random model of it is built and run in an instant.

A configuration's fields depend on each other in ways that only the family's code knows: heads must divide widths,
experts be as many as a token is routed to. All fields are made small at once. If no model comes of that, each is made
small on its own, and stays so only if a model of it still runs.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from drop_ray.models.sublayers import find_layers
from drop_ray.models.transformers_private import set_attention

# As few layers as show how sub-layers are dropped one by one, in pairs and all.
FEWEST_LAYERS = 4
# A model with more parameters is run on the meta device, where numbers take no memory.
LARGE = 1 << 23
TOKENS = torch.arange(3, 27).reshape(2, 12)
# The first pattern that a field's name matches gives its small value.
SMALL = tuple(
    (re.compile(pattern), value)
    for pattern, value in (
        (r"pad_token_id", 0),
        (r"bos_token_id", 1),
        (r"eos_token_id", 2),
        (r".*vocab_size.*", 64),
        (r"max_position_embeddings|n_positions|n_ctx|max_seq_len", 64),
        (r"(topk|n|num_expert)_groups?", 1),
        (r".*(per_tok|top_?k|moe_k).*", 2),
        (r".*shared_experts?", 1),
        (r".*experts", 4),
        (r".*(moe|expert).*(intermediate|ffn).*", 16),
        (r".*(intermediate_size|ffn_dim|ffn_hidden_size|n_inner|dff|dim_ff)", 64),
        (r"hidden_size|d_model|n_embd|embedding_(size|dim)|lru_width|word_embed_proj_dim", 32),
        (r".*(mamba_d_head|mamba_head_dim)", 16),
        (r".*(kv_heads|kv_n_heads|key_value_heads)", 2),
        (r".*(num_heads|n_heads?|attention_heads|nheads)", 4),
        (r".*(head_dim|dim_head|head_v_dim|head_k_dim|rotary_dim)", 8),
        (r".*groups?", 1),
        (r".*(rank|_dim|d_state|state_size|_size_per_layer_input)", 8),
    )
)


def small_config(config: Any, build: Callable[[Any], nn.Module]) -> Any:
    """The configuration with few, narrow layers, one of each kind at least, and all other settings as they are.

    build: makes the model of a configuration. Whatever it raises for the configuration itself is raised.
    """
    config = _with_few_layers(config, build)
    fields = _small_fields(config)
    together = _changed(config, fields)
    if together is not None and _runs(together, build):
        return together
    for group in _groups(config, fields):
        tried = _changed(config, {name: fields[name] for name in group})
        if tried is not None and _runs(tried, build):
            config = tried
    return config


def _small_fields(config: Any) -> dict[str, int]:
    values = config.to_dict()
    fields = {name: small for name, value in values.items() if (small := _small_value(name, value)) is not None}
    heads, kv_heads = "num_attention_heads", "num_key_value_heads"
    if heads in fields and values.get(kv_heads) == values[heads]:
        fields[kv_heads] = fields[heads]
    if values.get("mamba_d_ssm"):
        heads, width = (fields.get(name, values[name]) for name in ("mamba_n_heads", "mamba_d_head"))
        fields["mamba_d_ssm"] = heads * width
    heads, width = (fields.get(name, values.get(name)) for name in ("num_attention_heads", "hidden_size"))
    if values.get("attention_hidden_size") and heads and width:  # Zamba attends to the state beside the embedding
        fields["attention_hidden_size"], fields["attention_head_dim"] = 2 * width, 2 * width // heads
    if values.get("mamba_headdim") and values.get("n_mamba_heads") and width:
        fields["mamba_headdim"] = values["mamba_expand"] * width // values["n_mamba_heads"]
    if values.get("expand") and {"num_heads", "head_dim", "hidden_size"} <= fields.keys():  # Mamba 2
        fields["head_dim"] = values["expand"] * fields["hidden_size"] // fields["num_heads"]
    return fields


def _groups(config: Any, fields: dict[str, int]) -> Iterator[list[str]]:
    """The fields that are made small together: those of one value, which may depend on each other, then each alone."""
    values = config.to_dict()
    for value in dict.fromkeys(values[name] for name in fields):
        equal = [name for name in fields if values[name] == value]
        if len(equal) > 1:
            yield equal
    yield from ([name] for name in fields)


def _small_value(name: str, value: Any) -> int | None:
    """None for a field that stays as it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    small = next((small for pattern, small in SMALL if pattern.fullmatch(name)), None)
    return small if small is not None and value > small else None


def _with_few_layers(config: Any, build: Callable[[Any], nn.Module]) -> Any:
    """The configuration with as many of its first layers as it takes to meet every kind of them."""
    with torch.device("meta"):
        layers = find_layers(build(config))
    met: dict[Any, list[int]] = {}
    types = getattr(config, "layer_types", None) or [None] * len(layers)
    for index, (layer, kind) in enumerate(zip(layers, types, strict=False)):
        parts = tuple((name, type(part)) for name, part in layer.named_children())
        met.setdefault((kind, type(layer), parts), []).append(index)
    once, twice = (max((places[:number][-1] for places in met.values()), default=0) + 1 for number in (1, 2))
    few = _with_layers(config, max(FEWEST_LAYERS, once))
    # Where layers share their weights with others of their kind, there must be others.
    return few if once == twice or _builds(few, build) else _with_layers(config, max(FEWEST_LAYERS, twice))


def _builds(config: Any, build: Callable[[Any], nn.Module]) -> bool:
    try:
        with torch.device("meta"):
            build(config)
    except Exception:  # any fault of a library's code
        return False
    return True


def _with_layers(config: Any, count: int) -> Any:
    """The configuration with its first layers only."""
    changed: dict[str, Any] = {}
    if getattr(config, "num_kv_shared_layers", None):  # the last layers read keys and values of a layer of their kind
        changed["num_kv_shared_layers"] = count
        count *= 2
    total = config.num_hidden_layers
    if count >= total:
        return copy.deepcopy(config)
    for name, value in config.to_dict().items():
        if isinstance(value, list | tuple) and len(value) == total:
            changed[name] = list(value)[:count]
        elif isinstance(value, list | tuple) and "layer" in name and all(isinstance(entry, int) for entry in value):
            changed[name] = [entry for entry in value if entry < count]
        elif name == "num_blocks" and value == total:  # xLSTM counts its layers twice
            changed[name] = count
        elif isinstance(value, dict) and name == "per_layer_config":
            changed[name] = {key: entry for key, entry in value.items() if int(key) < count}
        elif isinstance(value, dict) and name.endswith("_config"):  # of a tower, which has layers of its own
            counts = {key: 1 for key in ("num_hidden_layers", "num_blocks") if key in value}
            changed |= {name: {**value, **counts}} if counts else {}
    # A class that counts its layers by a list of theirs takes no number.
    return _changed(config, {"num_hidden_layers": count, **changed}) or _changed(config, changed) or config


def _changed(config: Any, fields: dict[str, Any]) -> Any:
    """A configuration made anew with other values; None if its class refuses them."""
    known = {type(config).attribute_map.get(name, name) for name in fields}
    kept = {name: value for name, value in config.to_dict().items() if name not in known and name != "model_type"}
    try:
        made = type(config)(**kept, **fields)
    except Exception:  # each class has checks of its own
        return None
    made.architectures = config.architectures
    set_attention(made, "eager")
    return made


def _runs(config: Any, build: Callable[[Any], nn.Module]) -> bool:
    """Whether a model of a configuration can be built and run."""
    try:
        with torch.device("meta"), torch.no_grad():
            model: Any = build(config).eval()
            if sum(parameter.numel() for parameter in model.parameters()) > LARGE:
                model.set_experts_implementation("batched_mm")  # which does not look at numbers
                model(TOKENS.to("meta"), attention_mask=torch.ones_like(TOKENS, device="meta"), use_cache=False)
                return True
        with torch.no_grad():
            model = build(config).eval()
            model(TOKENS, use_cache=False)
    except Exception as error:  # any fault of a library's code means that these fields do not go together
        # Unless it asks for numbers, which the meta device lacks.
        return isinstance(error, NotImplementedError) or "meta tensor" in str(error)
    return True
