"""The sections of the config whose lines each add a change to the base and to the plans, such as `quantization`."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

from drop_ray.planning.changes import Change
from drop_ray.planning.plans import BASE
from drop_ray.planning.variants import Variant

if TYPE_CHECKING:
    from drop_ray.config import RunConfig
    from drop_ray.job.job import Job
    from drop_ray.models.checkpoint import Checkpoint

SECTIONS = ("drop_ray.quantization.section:QUANTIZATION",)
"""Location of each section's object as `module:attribute`, in the order in which their changes are made."""


class Line(Protocol):
    """A line of such a section."""

    @property
    def label(self) -> str:
        """The end of its variants' names."""

    @property
    def plans(self) -> Literal["all"] | tuple[str, ...]:
        """Names of the plans that it changes; the base is always changed."""


class ChangeSection(ABC):
    """A section of the config whose lines change the base and the plans."""

    field: str
    """Name of the section in the config."""
    libraries: tuple[str, ...]
    """Libraries that every node must have if the section has a line."""

    @abstractmethod
    def lines(self, config: "RunConfig") -> Sequence[Line]:
        """The section's lines, in the order of the config."""

    @abstractmethod
    def check(self, config: "RunConfig", checkpoint: "Checkpoint") -> None:
        """Raise UserError, before any work, for a line that cannot be done. checkpoint: the run's model."""

    @abstractmethod
    def changes(self, job: "Job") -> Sequence[Change]:
        """The change of each line, in their order."""

    def names(self, config: "RunConfig", plans: Sequence[str]) -> list[str]:
        """Names of the variants that it makes of plans with these names, or of the base if it is among them."""
        return [f"{plan}-{line.label}" for line in self.lines(config) for plan in plans if _is_for(line, plan)]

    def variants(self, job: "Job", base: Variant, plans: Sequence[Variant]) -> Iterator[Variant]:
        """The base, and every variant of a plan that the config names, by each line."""
        for line, change in zip(self.lines(job.config), job.changes[self.field], strict=True):
            for variant in (base, *plans):
                if _is_for(line, variant.plan.name):
                    yield variant.then(change)


@cache
def change_sections() -> tuple[ChangeSection, ...]:
    """All sections. They import heavy libraries only when they are used."""
    places = (place.partition(":") for place in SECTIONS)
    return tuple(getattr(importlib.import_module(module), attribute) for module, _, attribute in places)


def _is_for(line: Line, plan: str) -> bool:
    return plan == BASE or line.plans == "all" or plan in line.plans
