"""A quantized base read as if it were not: every weight is one tensor, made of its parts while it is read."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES, StoredTensor
from drop_ray.models.quantized_base.form import WHOLE, Form
from drop_ray.models.quantized_base.fp8 import Fp8
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, FP8, quantized_kind, weights_of
from drop_ray.models.quantized_base.mxfp4 import Mxfp4
from drop_ray.models.quantized_base.packed_int import PackedInt

DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


def form_of(config: Mapping[str, Any], location: str) -> Form | None:
    """How the weights of a checkpoint are stored, by its config.json; None if each is one tensor as it is.

    UserError for a kind of quantization that is not read here, and for sizes of blocks or groups that are none.
    """
    kind = quantized_kind(config, location)
    if kind is None:
        return None
    fields, what = config[FIELD], f"model.path: {location}/config.json: {FIELD}"
    if kind == FP8:
        return Fp8(_block(fields.get("weight_block_size"), what))
    if kind != COMPRESSED:
        return Mxfp4()
    weights = weights_of(fields)
    packed = [
        {key: group.get(key) for key in ("num_bits", "group_size")} for group in weights if group.get("type") == "int"
    ]
    if any(group != packed[0] for group in packed):
        raise UserError(f"{what} packs weights in two ways ({packed}), of which one is read")
    block = next((group["block_structure"] for group in weights if group.get("block_structure")), None)
    bits, size = (packed[0]["num_bits"], packed[0]["group_size"]) if packed else (4, None)
    if size is not None and (type(size) is not int or size < -1 or size == 0):
        raise UserError(f"{what}: group_size is {size}, which is not a number of columns")
    return PackedInt(bits or 4, size if size and size > 0 else None, Fp8(_block(block, what)))


def as_read(checkpoint: Checkpoint, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint itself, or a quantized one with its weights in `dtype`, of which the skeleton's parameters are."""
    form = form_of(checkpoint.config, checkpoint.location)
    if form is None:
        return checkpoint
    own = (checkpoint.location, checkpoint.folder, checkpoint.config, checkpoint.shards, checkpoint.hashes)
    return DequantizedBase(*own, form=form, dtype=dtype)


def name_as_read(checkpoint: Checkpoint, name: str) -> str:
    """The name of the tensor that a stored one is, or is a part of."""
    form = form_of(checkpoint.config, checkpoint.location)
    return form.home(name)[0] if form is not None else name


def stored_width(checkpoint: Checkpoint, parameters: int) -> float:
    """Bytes that one of the model's parameters takes in the checkpoint's files, its scales included."""
    return sum(tensor.num_bytes for tensor in checkpoint.tensors.values()) / max(1, parameters)


@dataclass(frozen=True)
class DequantizedBase(Checkpoint):
    """A quantized base, opened by `as_read`. Its weights have the values that transformers dequantizes them to."""

    form: Form
    """How its weights are stored."""
    dtype: torch.dtype
    """That of the weights that are made."""

    @cached_property
    def stored(self) -> Checkpoint:
        """The same files, as they are."""
        return Checkpoint(self.location, self.folder, self.config, self.shards, self.hashes)

    @cached_property
    def parts(self) -> dict[str, dict[str, str]]:
        """For each weight that is made of several tensors, their names by the parts that they are."""
        found: dict[str, dict[str, str]] = {}
        for name in self.stored.tensors:
            home, part = self.form.home(name)
            found.setdefault(home, {})[part] = name
        return {home: parts for home, parts in found.items() if self._is_made(parts)}

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        made = {name for parts in self.parts.values() for name in parts.values()}
        tensors = {name: tensor for name, tensor in self.stored.tensors.items() if name not in made}
        for home, parts in self.parts.items():
            try:
                shape = self.form.shape({part: self.stored.tensors[name] for part, name in parts.items()})
            except ValueError as error:
                raise self._fault(home, error) from error
            num_bytes = math.prod(shape) * self.dtype.itemsize
            tensors[home] = StoredTensor(DTYPE_NAMES[self.dtype], shape, num_bytes)
        return tensors

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The named tensors. KeyError for an unknown name. UserError names a weight whose parts do not fit."""
        wanted = set(names)
        made = {home: self.parts[home] for home in wanted & self.parts.keys()}
        tensors = self.stored.read((wanted - made.keys()).union(*(parts.values() for parts in made.values())))
        for home, parts in made.items():
            own = {part: tensors.pop(name) for part, name in parts.items()}
            try:
                tensors[home] = self.form.weight(own, self.dtype)
            except (ValueError, RuntimeError) as error:
                raise self._fault(home, error) from error
        return tensors

    def _is_made(self, parts: Mapping[str, str]) -> bool:
        # An 8-bit float without a scale is a fault, which `Form.shape` tells.
        return parts.keys() != {WHOLE} or self.stored.tensors[parts[WHOLE]].dtype.startswith("F8")

    def _fault(self, home: str, error: Exception) -> UserError:
        return UserError(
            f"model.path: {self.location}: {home} cannot be read: {error}; is this checkpoint complete, and its "
            f"{FIELD} the right one?"
        )


def _block(stated: Any, what: str) -> tuple[int, int] | None:
    if stated is None:
        return None
    if not isinstance(stated, list) or len(stated) != 2 or not all(type(size) is int and size > 0 for size in stated):
        raise UserError(f"{what}: weight_block_size is {stated}; it is a list of two sizes")
    return stated[0], stated[1]
