"""What can be added to drop_ray, by the project itself and by packages outside of it, under names that a user writes.

A package adds one by an entry point of its pyproject.toml, whose name is what a config or a plan file calls it:

    [project.entry-points."drop_ray.metrics"]
    euclidean = "my_package.metrics:Euclidean"

Nothing is imported before it is asked for by name.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drop_ray.errors import UserError


@dataclass(frozen=True)
class Registry:
    """One kind of thing that can be added."""

    group: str
    """Of the entry points: `drop_ray.metrics`."""
    noun: str
    """What one of them is called in messages: `metric`."""
    own: Mapping[str, str]
    """The project's own by name, each as `module:attribute`."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The project's own first, then those of other packages by name. UserError if two have one name."""
        return (*self.own, *sorted(self._foreign))

    def load(self, name: str) -> Any:
        """What stands behind a name; UserError if it is unknown or its package cannot be imported."""
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name not in self._foreign:
            raise UserError(f"there is no {self.noun} {name}; there are: {', '.join(self.names)}")
        point = self._foreign[name]
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self.noun} {name} cannot be loaded from {point.value}: {error}") from error

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            other = self.own.get(point.name) or (found[point.name].value if point.name in found else None)
            if other not in (None, point.value):
                raise UserError(f"two packages give a {self.noun} {point.name}: {other} and {point.value}; remove one")
            found[point.name] = point
        return found
