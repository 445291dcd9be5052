"""Whether the fields of a config.json can describe a model at all, before any class of transformers reads them.

The classes check some types, and let other values through to code that fails far from the field, or never ends.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from drop_ray.errors import UserError
from drop_ray.text.faults import in_a_line

# Counts that decide how many modules are built, and widths, each with more than any model has.
COUNT = re.compile(r"num_\w+|first_k_dense_replace|n_(routed|shared)_experts|n_group|topk_group")
WIDTH = re.compile(r"\w+_(size|dim|rank)")
MOST, WIDEST = 1 << 12, 1 << 24
POSITIVE = {"num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"}


def check_fields(config: Mapping[str, Any], what: str) -> None:
    """UserError, which begins with `what`, for a field that no model has so."""
    names = config.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{what}: architectures is {_shown(names)}; it is a list of names of classes")
    if not isinstance(config.get("quantization_config", {}), dict):
        raise UserError(f"{what}: quantization_config is {_shown(config['quantization_config'])}; it is an object")
    for field in ("dtype", "torch_dtype"):
        name = config.get(field)
        if name is not None and not (isinstance(name, str) and isinstance(getattr(torch, name, None), torch.dtype)):
            raise UserError(f"{what}: {field} is {_shown(name)}; it is the name of a type, such as bfloat16")
    for field in ("rope_scaling", "rope_parameters"):
        rope = config.get(field)
        if isinstance(rope, dict) and "su" in (rope.get("type"), rope.get("rope_type")):
            raise UserError(f"{what}: {field} has the type su, which is called longrope now; write that")
    for field, value in config.items():
        most = MOST if COUNT.fullmatch(field) else WIDEST if WIDTH.fullmatch(field) else None
        if most is None or isinstance(value, bool) or not isinstance(value, int):
            continue
        least = 1 if field in POSITIVE else 0
        if not least <= value <= most:
            raise UserError(f"{what}: {field} is {_shown(value)}; a model has {least} to {most}")


def check_rope(config: Any, what: str) -> None:
    """UserError for a type of rotary embedding that transformers lacks. `config` is an object of a family's class."""
    rope = getattr(config, "rope_parameters", None) or {}
    # A family may scale each kind of layer on its own: then there is an object for each.
    for part in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        kind = part.get("rope_type")
        if kind is not None and kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            raise UserError(
                f"{what}: rope_scaling has the type {_shown(kind)}, and transformers {transformers.__version__} has "
                f"default, {', '.join(ROPE_INIT_FUNCTIONS)}"
            )


@contextmanager
def said_of_config(what: str) -> Iterator[None]:
    """Turns what a class of transformers raises over its configuration into a UserError that begins with `what`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each class and each of its validators fails in its own way
        raise UserError(f"{what}: {in_a_line(error)}; correct the field, or download config.json again") from error


def _shown(value: Any) -> str:
    return repr(value)[:60]
