"""Refitting as a change of a model: its identity, and the step that computes the changed tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from drop_ray.config.refit import RefitSpec
from drop_ray.planning.changes import Patch
from drop_ray.store import Step
from drop_ray.store.versions import public_versions


@dataclass(frozen=True, eq=False)
class Refit(Patch):
    """One line of the config's `refit`, with what it is fitted to.

    Lines that differ in their names or in the plans that they are for are equal.
    """

    kind: ClassVar[str] = "refit"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    spec: RefitSpec
    """How projections are solved."""
    settings: Mapping[str, Any]
    """How both models compute: dtype, attention implementation and samples per forward pass."""
    samples: Mapping[str, Any]
    """Identity of the text that it is fitted to and measured on."""

    @property
    def label(self) -> str:
        return self.spec.label

    def identity(self) -> Mapping[str, Any]:
        return {
            "algorithm": 1,
            **self.settings,
            **self.spec.model_dump(include={"ridge", "num_samples", "held_out"}),
            "samples": self.samples,
        }

    @property
    def description(self) -> str:
        """What was done, for who finds a checkpoint without its run."""
        ridge = "chosen by held-out samples" if self.spec.ridge == "auto" else f"{self.spec.ridge:g}"
        return f"output projections solved anew to bring the residual stream back to the base's; ridge {ridge}"

    def step(self, base: str, before: Mapping[str, Any]) -> Step:
        """The changed tensors, with what each sub-layer lacked, and divergences on held-out samples."""
        versions = public_versions(self.libraries)
        return Step("refit", {"versions": versions, "model": base, **before, **self.identity()})


def layer_step(whole: Step, layer: int) -> Step:
    """A part of a refit: the changed tensors of one layer, by which a worker goes on where another was lost."""
    return Step("refit-layer", {**whole.identity, "layer": layer})
