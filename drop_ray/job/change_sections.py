"""The sections of the config whose lines each add a change to the base and to the plans, such as `quantization`."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from drop_ray.planning.changes import Change
from drop_ray.planning.plans import BASE
from drop_ray.planning.variants import Variant

if TYPE_CHECKING:
    from drop_ray.config import RunConfig, TextSection
    from drop_ray.job.job import Job
    from drop_ray.models.checkpoint import Checkpoint

SECTIONS = ("drop_ray.job.refit_section:REFIT", "drop_ray.quantization.section:QUANTIZATION")
"""Location of each section's object as `module:attribute`, in the order in which their changes are made."""


class Line(Protocol):
    """A line of such a section."""

    @property
    def label(self) -> str:
        """The end of its variants' names."""

    @property
    def plans(self) -> Literal["all"] | tuple[str, ...]:
        """Names of the variants that it changes; a section that changes the base too always does."""


class ChangeSection(ABC):
    """A section of the config whose lines change the base and the plans."""

    field: str
    """Name of the section in the config."""
    is_exported: bool = False
    """Whether `export` is for its variants too; those of other sections have checkpoints of their own."""

    @abstractmethod
    def lines(self, config: "RunConfig") -> Sequence[Line]:
        """The section's lines, in the order of the config."""

    def libraries(self, config: "RunConfig") -> tuple[str, ...]:  # noqa: ARG002
        """Libraries that every node must have for the section's lines."""
        return ()

    @abstractmethod
    def check(self, config: "RunConfig", checkpoint: "Checkpoint") -> None:
        """Raise UserError, before any work, for a line that cannot be done. checkpoint: the run's model."""

    @abstractmethod
    def changes(self, job: "Job") -> Sequence[Change]:
        """The change of each line, in their order."""

    def names(self, config: "RunConfig", variants: Sequence[str]) -> list[str]:
        """Names of the variants that it makes of those with these names, the base among them if it is."""
        return [f"{name}-{line.label}" for line in self.lines(config) for name in variants if _is_for(line, name)]

    def variants(self, job: "Job", base: Variant, plans: Sequence[Variant]) -> Iterator[Variant]:
        """The base, and every variant that the config names, by each line. plans: those that were made before."""
        for line, change in zip(self.lines(job.config), job.changes[self.field], strict=True):
            for variant in (base, *plans):
                if _is_for(line, variant.name):
                    yield variant.then(change)


@cache
def change_sections() -> tuple[ChangeSection, ...]:
    """All sections. They import heavy libraries only when they are used."""
    places = (place.partition(":") for place in SECTIONS)
    return tuple(getattr(importlib.import_module(module), attribute) for module, _, attribute in places)


def text_identity(job: "Job", text: "TextSection | None", field: str) -> dict[str, Any]:
    """Identity of the samples that a line works on: of its own text, or the run's calibration samples.

    field: where the config names that text.
    """
    if text is None:
        settings = {"text_field", "num_samples", "seq_len", "shuffle_seed"}
        return job.calibration.content | job.config.calibration.model_dump(include=settings)
    return {**job.text(field).identity, **text.model_dump(include={"num_samples", "seq_len"})}


def _is_for(line: Line, variant: str) -> bool:
    return variant == BASE or line.plans == "all" or variant in line.plans
