"""`scale_mlp`: an MLP adds more or less to the residual stream than it was trained to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from drop_ray.planning.changes import TensorEdit


@dataclass(frozen=True, eq=False)
class ScaleMlp(TensorEdit):
    kind: ClassVar[str] = "scale_mlp"
    layer: int
    factor: float

    def __post_init__(self) -> None:
        if type(self.layer) is not int or self.layer < 0 or not isinstance(self.factor, int | float):
            raise ValueError("`layer` is the number of a layer, `factor` a number")

    @property
    def label(self) -> str:
        return f"scaled{self.layer}"

    def identity(self) -> Mapping[str, Any]:
        return {"layer": self.layer, "factor": self.factor}

    def edits(self, name: str) -> bool:
        return name == f"model.layers.{self.layer}.mlp.down_proj.weight"

    def edit(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.factor
