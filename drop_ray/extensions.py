"""The metrics, strategies, changes and report sections that drop_ray and other packages add, by name.

The project adds one by a file and a line below. Another package adds one by an entry point in its pyproject.toml. The
name of the entry point is the name that a config uses:

    [project.entry-points."drop_ray.metrics"]
    euclidean = "my_package.metrics:EUCLIDEAN"

Each is imported when it is asked for by name: listing the names needs no heavy library. docs/extending.md has a
complete package.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drop_ray.errors import UserError

# A name becomes part of a plan's name, and so of file names; hyphens separate the parts of a plan's name.
NAME = r"[a-z][a-z0-9_]*"


@dataclass(frozen=True)
class Registry:
    """One kind of thing that can be added."""

    group: str
    """Group of the entry points, such as `drop_ray.metrics`."""
    noun: str
    """Word for one of them in messages, such as `metric`."""
    base: str
    """The class that each must be an instance or, with `classes`, a subclass of, as `module:attribute`."""
    own: Mapping[str, str]
    """Those of the project by name, each as `module:attribute`."""
    classes: bool = False
    """Whether each is a subclass of `base`, and not an instance."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names: the project's own first, then those of other packages, sorted. UserError if two have one name."""
        return (*self.own, *sorted(self._foreign))

    def load(self, name: str) -> Any:
        """The object of that name. UserError if it is unknown, cannot be imported, or is not of the base class."""
        if name in self.own:
            return _attribute(self.own[name])
        point, base = self._point(name), _attribute(self.base)
        source = f"{point.value} of package {_package(point)}"
        try:
            found = point.load()
        except Exception as error:  # importing a package can raise anything
            raise UserError(
                f"{self.noun} {name} cannot be loaded from {source}: {type(error).__name__}: {error}; "
                "mend or uninstall the package"
            ) from error
        fits = isinstance(found, type) and issubclass(found, base) if self.classes else isinstance(found, base)
        if not fits:
            raise UserError(
                f"{self.noun} {name}: {source} is no {'subclass' if self.classes else 'instance'} of "
                f"{base.__module__}.{base.__qualname__}; "
                "mend or uninstall the package"
            )
        return found

    def package(self, name: str) -> str | None:
        """The package that adds a name; None for the project's own names. UserError if the name is unknown."""
        return None if name in self.own else _package(self._point(name))

    def _point(self, name: str) -> EntryPoint:
        if name not in self._foreign:
            raise UserError(f"there is no {self.noun} {name}; there are: {', '.join(self.names)}")
        return self._foreign[name]

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if not re.fullmatch(NAME, point.name):
                raise UserError(
                    f"package {_package(point)} calls a {self.noun} {point.name!r}; a name has small letters, digits "
                    "and _ only, and begins with a letter"
                )
            if point.name in self.own or point.name in found:
                other = "drop_ray" if point.name in self.own else _package(found[point.name])
                raise UserError(
                    f"packages {other} and {_package(point)} both have a {self.noun} {point.name}; "
                    f"uninstall {_package(point)}, or have it rename its own"
                )
            found[point.name] = point
        return found


def _attribute(location: str) -> Any:
    module, _, attribute = location.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _package(point: EntryPoint) -> str:
    # Every entry point that entry_points() finds comes from an installed package.
    assert point.dist is not None
    return point.dist.name


METRICS = Registry(
    "drop_ray.metrics",
    "metric",
    "drop_ray.scoring.metrics.metric:Metric",
    {
        "cosine": "drop_ray.scoring.metrics.cosine:COSINE",
        "angular": "drop_ray.scoring.metrics.angular:ANGULAR",
        "update_norm": "drop_ray.scoring.metrics.update_norm:UPDATE_NORM",
        "gate_norm": "drop_ray.scoring.metrics.gate_norm:GATE_NORM",
        "attention_entropy": "drop_ray.scoring.metrics.attention_entropy:ATTENTION_ENTROPY",
        "kl": "drop_ray.scoring.metrics.kl:KL",
        "loss": "drop_ray.scoring.metrics.loss:LOSS",
    },
)
STRATEGIES = Registry(
    "drop_ray.strategies",
    "strategy",
    "drop_ray.planning.strategies.strategy:Strategy",
    {
        "attention": "drop_ray.planning.strategies.ranked:ATTENTION",
        "mlp": "drop_ray.planning.strategies.ranked:MLP",
        "joint": "drop_ray.planning.strategies.ranked:JOINT",
        "block": "drop_ray.planning.strategies.ranked:BLOCK",
        "block_consecutive": "drop_ray.planning.strategies.block_consecutive:BLOCK_CONSECUTIVE",
        "greedy": "drop_ray.planning.strategies.greedy:GREEDY",
        "budget": "drop_ray.planning.strategies.budget:BUDGET",
        "random": "drop_ray.planning.strategies.random_order:RANDOM",
        "reverse": "drop_ray.planning.strategies.reverse_order:REVERSE",
    },
)
CHANGES = Registry(
    "drop_ray.changes",
    "kind of change",
    "drop_ray.planning.changes:Change",
    {"drop": "drop_ray.planning.changes:Drop"},
    classes=True,
)
"""Kinds of change that a plan file can name. A section of the config, such as `quantization`, makes other changes."""
SECTIONS = Registry(
    "drop_ray.sections",
    "report section",
    "collections.abc:Callable",
    {
        name: f"drop_ray.report.sections.{name}:{name}_sections"
        for name in (
            "answer",
            "scores",
            "training",
            "quality",
            "divergence",
            "screening",
            "front",
            "variants",
            "budgets",
            "sensitivity",
            "recovery",
            "answers",
            "gates",
            "quantization",
            "serving",
            "drafts",
            "costs",
            "provenance",
        )
    },
)
"""Functions from the report's results to sections, in the order of the report; the first one provides its title."""
