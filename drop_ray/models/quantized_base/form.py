"""How a quantized weight lies in a checkpoint's files: as several tensors, of which one weight is made."""

from collections.abc import Mapping
from typing import Protocol

import torch

from drop_ray.models.files.stored_tensors import StoredTensor

# The part of a weight that is stored under the weight's own name. What is not quantized has this part alone.
WHOLE = "weight"


class Form(Protocol):
    """One way in which weights are stored."""

    def home(self, name: str) -> tuple[str, str]:
        """The weight that a stored tensor is a part of, and which part; (`name`, WHOLE) for what is a tensor itself."""

    def shape(self, parts: Mapping[str, StoredTensor]) -> tuple[int, ...]:
        """The weight's shape. ValueError for parts that make no weight."""

    def weight(self, parts: Mapping[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        """The weight in `dtype`, rounded once. ValueError for parts that do not fit each other."""
