"""The stages in their order: the one list for the pipeline, the dry run, the commands and the scripts in jobs/.

A stage's module is imported when the stage is asked for.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drop_ray.job.stage import Stage


@dataclass(frozen=True)
class Entry:
    """A stage in the list."""

    name: str
    """Name of the stage, and of the command that ends with it."""
    module: str
    """Module whose `STAGE` is the stage."""
    help: str
    """Help text of the command."""

    def load(self) -> "Stage":
        stage: Stage = importlib.import_module(self.module).STAGE
        return stage


STAGES = (
    Entry("score", "drop_ray.stages.score", "score every attention layer, MLP and block, and stop"),
    Entry("plan", "drop_ray.stages.plan", "score and make the drop plans, and stop"),
    Entry("refit", "drop_ray.stages.refit", "make the drop plans, fit what is left of them anew, and stop"),
    Entry(
        "export", "drop_ray.stages.export", "write the checkpoints that the config exports, or one plan's to a folder"
    ),
    Entry(
        "diverge",
        "drop_ray.stages.diverge",
        "do everything up to the comparison of predictions with the base's, and stop",
    ),
    Entry("evaluate", "drop_ray.stages.evaluate", "do everything up to the evaluation in 16 bits, and stop"),
    Entry("gates", "drop_ray.stages.gates", "do everything up to the damage gates in 16 bits, and stop"),
    Entry(
        "quantize",
        "drop_ray.stages.quantize",
        "do everything up to the quantized checkpoints and their evaluation, and stop",
    ),
    Entry("bench", "drop_ray.stages.bench", "do everything but the report, serving speed included"),
    Entry(
        "report",
        "drop_ray.stages.report",
        "as run: what is done is not done again, so this writes the report anew",
    ),
)
LAST = STAGES[-1].name


def stages_until(name: str) -> Sequence[Entry]:
    """The stages up to and including that one."""
    names = [entry.name for entry in STAGES]
    return STAGES[: names.index(name) + 1]
