"""Which kinds of quantized bases are taken, by the `quantization_config` of config.json. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

from drop_ray.errors import UserError

FIELD = "quantization_config"
FP8, MXFP4, COMPRESSED = "fp8", "mxfp4", "compressed-tensors"
# The formats of compressed-tensors that are read here.
FORMATS = ("pack-quantized", "float-quantized")
REMEDY = "give its 16-bit checkpoint: layers are dropped first, and quantized after"


def quantized_kind(config: Mapping[str, Any], location: str) -> str | None:
    """FP8, MXFP4 or COMPRESSED; None for a base in 16 or 32 bits.

    UserError for every other kind, and for a form of these kinds that is not read here.
    """
    fields = config.get(FIELD)
    if not fields:
        return None
    method = fields.get("quant_method", "an unknown method")
    if method in (FP8, MXFP4):
        return str(method)
    if method != COMPRESSED:
        raise UserError(f"model.path: {location} is quantized already ({method}); {REMEDY}")
    _check_groups(fields, location)
    return COMPRESSED


def check_in_16_bits(config: Mapping[str, Any], location: str, field: str) -> None:
    """UserError if the base is quantized. `field` asks for all of its weights in another form, for the message."""
    if kind := quantized_kind(config, location):
        raise UserError(
            f"{field}: changes weights, and those of {location} are stored quantized ({kind}); give model.path the "
            "16-bit checkpoint that it was made from"
        )


def weights_of(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How each group of linears of compressed-tensors stores its weights."""
    groups = fields.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return []
    return [group.get("weights") or {} for group in groups.values() if isinstance(group, dict)]


def _check_groups(fields: Mapping[str, Any], location: str) -> None:
    what = f"model.path: {location}/config.json: {FIELD}"
    found = [fields.get("format"), *(group.get("format") for group in (fields.get("config_groups") or {}).values())]
    # A mixture of formats states each in its group.
    formats = {name for name in found if name not in (None, "mixed-precision")}
    if not formats or not formats <= {*FORMATS}:
        other = ", ".join(sorted(map(str, formats - {*FORMATS}))) or "not stated"
        raise UserError(f"{what}.format is {other}; {' and '.join(FORMATS)} are read; {REMEDY}")
    for weights in weights_of(fields):
        if weights.get("type") == "int" and not weights.get("symmetric", True):
            raise UserError(f"{what} has weights with zero points (symmetric: false), which are not read; {REMEDY}")
        if weights.get("actorder") not in (None, False, "static", "weight"):
            raise UserError(f"{what} has weights in another order (actorder), which are not read; {REMEDY}")
        if weights.get("type") == "int" and weights.get("num_bits") not in (4, 8):
            raise UserError(f"{what} has weights of {weights.get('num_bits')} bits; 4 and 8 are read; {REMEDY}")
