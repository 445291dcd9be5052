"""What is wrong with a config.json that a class of transformers has read or refused, in terms of its fields."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from drop_ray.errors import UserError
from drop_ray.models.config_fields import EXPERTS, ROPE, WIDTHS, shown
from drop_ray.text.faults import in_a_line

# What is spent on finding the field that a class failed over.
SEARCH_S = 3.0
SIZE = re.compile(rf"{WIDTHS}|{'|'.join(EXPERTS)}")
# Kinds of layers that look back at some tokens only, and the field that says at how many.
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}


@contextmanager
def said_of_config(what: str, fields: Mapping[str, Any], build: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Turns what a class raises over its configuration into a UserError that begins with `what`.

    It names the field without which, at the class's own default, `build` succeeds. No library says so itself: most
    fail where they compute with the value.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each class and each of its validators fails in its own way
        text, field = in_a_line(error), _field_at_fault(fields, build)
        named = f"{field} is {shown(fields[field])}: " if field is not None and field not in text else ""
        raise UserError(f"{what}: {named}{text}; correct the field, or download config.json again") from error


def _field_at_fault(fields: Mapping[str, Any], build: Callable[[dict[str, Any]], object]) -> str | None:
    end = time.monotonic() + SEARCH_S
    # A token beyond the vocabulary is at fault before the vocabulary.
    for field in sorted(fields, key=lambda name: not name.endswith("_token_id")):
        if time.monotonic() > end:
            break
        try:
            build({name: value for name, value in fields.items() if name != field})
        except Exception:  # it is not this field, or not this one alone
            continue
        return field
    return None


def check_values(config: Any, fields: Mapping[str, Any], what: str) -> None:
    """UserError for values that fit their fields, and not each other: a forward pass would fail over them.

    `config` is an object of a family's class, with its defaults, made of the `fields` of config.json.
    """
    _check_rope(config, fields, what)
    _check_router(config, what)
    for kind in dict.fromkeys(getattr(config, "layer_types", None) or ()):
        field = WINDOWS.get(kind)
        if field and not getattr(config, field, None):
            raise UserError(f"{what}: {field} is {getattr(config, field, None)}, and layer_types has {kind}")


def _check_rope(config: Any, fields: Mapping[str, Any], what: str) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    field = next((name for name in reversed(ROPE) if fields.get(name)), ROPE[0])
    # A family may scale each kind of layer on its own: then there is an object for each.
    for part in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        kind = part.get("rope_type")
        if kind is not None and kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            raise UserError(
                f"{what}: {field} has the type {shown(kind)}, and transformers {transformers.__version__} has "
                f"default, {', '.join(ROPE_INIT_FUNCTIONS)}"
            )


def _check_router(config: Any, what: str) -> None:
    """A token goes to some experts of all; DeepSeek-V3 and its kin choose these in some groups of all."""
    name, experts = next(((name, count) for name in EXPERTS if (count := getattr(config, name, None))), ("", 0))
    if not experts or isinstance(experts, list):
        return
    chosen = getattr(config, "num_experts_per_tok", 1)
    if not isinstance(chosen, list) and not 1 <= (chosen or 0) <= experts:
        raise UserError(f"{what}: num_experts_per_tok is {chosen}, and {name} is {experts}; it is from 1 to as many")
    groups, chosen = getattr(config, "n_group", None), getattr(config, "topk_group", None)
    is_grouped = getattr(type(config), "n_group", None) is not None or groups is not None
    if not is_grouped or getattr(config, "topk_method", None) == "greedy":
        return
    if not groups or experts % groups:
        raise UserError(f"{what}: n_group is {groups}, and {name} is {experts}; groups are of equal size")
    if not 1 <= (chosen or 0) <= groups:
        raise UserError(f"{what}: topk_group is {chosen}, and n_group is {groups}; it is from 1 to as many")


def asked_by(config: Any, numbers: set[int]) -> str:
    """In brackets, the one size of a configuration with one of these values: it asks for a tensor of that shape.

    Empty if there is no such field, or several.
    """
    sizes = {name: value for name, value in config.to_dict().items() if SIZE.fullmatch(name) and type(value) is int}
    found = [f"{name} is {value}" for name, value in sizes.items() if value in numbers]
    return f" ({found[0]})" if len(found) == 1 else ""
