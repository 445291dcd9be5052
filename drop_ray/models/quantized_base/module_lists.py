"""Lists of modules that are not quantized, in the `quantization_config` of a base that is."""

from collections.abc import Mapping
from typing import Any

from drop_ray.models.quantized_base.kinds import FIELD


def without_modules(config: Mapping[str, Any], base_prefix: str, dropped: tuple[str, ...]) -> dict[str, Any]:
    """The `quantization_config` of config.json without the modules that were dropped; empty if there is none.

    `dropped` are beginnings of names, such as `layers.3.mlp.`, which may follow `base_prefix` (`model.`). Patterns stay
    as they are: they fit what is left.
    """
    fields = config.get(FIELD)
    if not fields:
        return {}

    def kept(value: Any) -> Any:
        if not isinstance(value, list) or not dropped:
            return value
        return [name for name in value if not _is_of(name, base_prefix, dropped)]

    return {FIELD: {name: kept(value) for name, value in fields.items()}}


def _is_of(name: Any, base_prefix: str, dropped: tuple[str, ...]) -> bool:
    return isinstance(name, str) and f"{name}.".removeprefix(base_prefix).startswith(dropped)
