"""Which tensors of a checkpoint make which tensor of a model, by the conversions that transformers has for the family.

Most tensors keep their name and shape. The experts of a mixture are one tensor each in the files, and fused in the
model.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.models.transformers_private import conversions_of, natural_order


@dataclass
class Recipe:
    """How one group of file tensors becomes tensors of the model: as they are, or through a converter."""

    target: str
    """The model tensor that is made, the first one if there are several."""
    converter: Any = None
    """Converter of transformers; None if the tensor stays as it is."""
    sources: list[tuple[str, str]] = field(default_factory=list)
    """For each file tensor, the converter's pattern that it matches and its name."""

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.sources]

    @property
    def targets(self) -> list[str]:
        """The model tensors that it makes."""
        if self.converter is None:
            return [self.target]
        first = self.converter.target_patterns[0]
        return [self.target.replace(first, pattern) for pattern in self.converter.target_patterns]

    def make(self, tensors: Mapping[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """The model's tensors by name, from the file tensors by name."""
        if self.converter is None:
            return {self.target: tensors[self.names[0]]}
        converter = copy.deepcopy(self.converter)
        for pattern, name in self.sources:
            converter.add_tensor(self.target, name, pattern, tensors[name])
        made = converter.convert(self.target, model=model, config=model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True)
class TensorMap:
    """How all tensors of a checkpoint's files fit a model."""

    recipes: Mapping[str, Recipe]
    """Recipes by the first model tensor that each makes."""
    homeless: Mapping[str, str]
    """File tensors that the model has no place for, with the names that they would have in it."""


def map_tensors(model: PreTrainedModel, names: Iterable[str]) -> TensorMap:
    """Match the names in a checkpoint's files with those of a model.

    The order of the steps is that of `transformers.core_model_loading.convert_and_load_state_dict_in_model`.
    """
    conversions = conversions_of(model)
    by_pattern = {pattern: converter for converter in conversions.converters for pattern in converter.source_patterns}
    expected = model.state_dict(keep_vars=True)
    recipes: dict[str, Recipe] = {}
    homeless: dict[str, str] = {}
    # Experts are stacked in the order of their numbers.
    for name in sorted(names, key=natural_order):
        target, pattern = conversions.rename(name, model.base_model_prefix, expected)
        if target not in expected and name in expected:
            target, pattern = name, None
        if target not in expected:
            homeless[name] = target
        elif pattern is not None:
            recipe = recipes.setdefault(target, Recipe(target, by_pattern[pattern]))
            recipe.sources.append((pattern, name))
        else:
            recipes[target] = Recipe(target, None, [(name, name)])
    return TensorMap(recipes, homeless)
