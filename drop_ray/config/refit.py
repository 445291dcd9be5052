"""`refit`: what is left of every plan, solved anew so that it makes up for what is gone."""

from typing import Annotated, Literal

from pydantic import Field

from drop_ray.config.section import FileName, Section, split_samples
from drop_ray.config.texts import TextSection


class RefitSpec(Section):
    """One line of `refit`: how the output projections of dropped models are solved anew."""

    name: FileName = Field("refit", description="end of the variants' names")
    ridge: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="ridge, relative to the mean square of a projection's inputs, such as 0.1; auto chooses it for "
        "each projection by the samples that are held out",
    )
    text: TextSection | None = Field(
        None, description="another text to fit to, best a mix of kinds; null takes the run's calibration samples"
    )
    num_samples: int | None = Field(None, ge=1, description="first samples to fit to; null is all that are left")
    held_out: int = Field(8, ge=2, description="last samples, on which the effect is measured and `auto` chooses")
    plans: Literal["all"] | tuple[str, ...] = Field("all", description="which plans are refitted; the base never is")

    @property
    def label(self) -> str:
        """The end of a refitted variant's name."""
        return self.name

    def split(self, total: int) -> tuple[range, range]:
        """Of `total` samples, those to fit to and those held out. ValueError if there are too few."""
        return split_samples(total, self.num_samples, self.held_out, "fit to")
