"""How a layer was built, as far as this shows without weights.

It serves to prove that renumbering leaves a layer as it was.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

# A layer's place in the KV cache. It is left out of the comparison, since renumbering changes it.
NUMBER = "layer_idx"
ABSENT = "absent"


def setting_that_differs(layer: nn.Module, other: nn.Module) -> tuple[str, Any, Any] | None:
    """The first setting, such as `self_attn.sliding_window`, that two layers do not share, with the value in each."""
    settings, others = dict(_settings(layer)), dict(_settings(other))
    for name in [*settings, *others]:
        value, other_value = settings.get(name, ABSENT), others.get(name, ABSENT)
        if not _equal(value, other_value):
            return name, value, other_value
    return None


def _settings(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    in_files = layer.state_dict(keep_vars=True).keys()
    for path, module in layer.named_modules():
        prefix = f"{path}." if path else ""
        yield f"{prefix}__class__", type(module).__name__
        for name, value in vars(module).items():
            if _is_plain(value) and name != NUMBER:
                yield f"{prefix}{name}", value
        for name, parameter in module.named_parameters(recurse=False):
            yield f"{prefix}{name}", tuple(parameter.shape)
        for name, buffer in module.named_buffers(recurse=False):
            # A buffer that no checkpoint holds was computed from the configuration.
            yield f"{prefix}{name}", tuple(buffer.shape) if f"{prefix}{name}" in in_files else buffer


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, int | float | str)


def _equal(value: Any, other: Any) -> bool:
    if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(value, other)
    return type(value) is type(other) and bool(value == other)
