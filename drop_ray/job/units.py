"""Units of work: what one worker does in one piece, and commits under its step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drop_ray.store import Commit, Step

if TYPE_CHECKING:
    from drop_ray.job.run_state import RunState
    from drop_ray.job.worker import Worker


class Share(ABC):
    """What a worker is given at a time: a unit, or several that are done together."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For people; unique in its stage."""

    @property
    def title(self) -> str:
        """Of its stage in progress lines, where the stage's name does not say it all."""
        return ""

    @property
    @abstractmethod
    def model_key(self) -> object:
        """Equal for shares that need the same model, which a worker keeps."""

    @property
    def tokens(self) -> int:
        """Tokens that it scores, for the metrics."""
        return 0

    @abstractmethod
    def run(self, worker: "Worker") -> list[Commit]:
        """Do it, in a worker. What an earlier attempt had committed is not done again."""


@dataclass(frozen=True)
class Unit(Share):
    """One step, done by one worker."""

    label: str
    """For people; unique in its stage."""
    step: Step
    """What it computes, and where that is committed."""
    line: str
    """The line of the dry run that it counts for."""

    @property
    def name(self) -> str:
        return self.label

    def bound(self, run: "RunState") -> "Unit":
        """Ready to be sent: with what of earlier stages it needs."""
        del run
        return self

    def run(self, worker: "Worker") -> list[Commit]:
        done = worker.store.find(self.step)
        return [self.work(worker) if done is None else done]

    @abstractmethod
    def work(self, worker: "Worker") -> Commit:
        """Compute the step and commit it."""


@dataclass(frozen=True)
class LocalUnit:
    """One step that the driver does itself, since sending its inputs would take longer."""

    label: str
    """For people; unique in its stage."""
    step: Step
    """What it computes, and where that is committed."""
    line: str
    """The line of the dry run that it counts for; none if it is empty."""
    make: Callable[[], Commit]
    """Computes the step and commits it."""
    made_of: Mapping[str, str] | None = None
    """Checksums of the units that it is made of; one made of others is made anew."""


@dataclass(frozen=True)
class WorkerRequest:
    """The workers that a stage's units need."""

    pool: str = "torch"
    """Workers of one pool share their processes; those of another pool end first."""
    num_workers: int | None = None
    """None is what `execution` says."""
    num_gpus: float | None = None
    """Of each worker. None is what `execution` says."""
    model_bytes: int = 0
    """Of the largest model that a worker holds whole, over all of its GPUs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that their processes start with."""


@dataclass(frozen=True)
class UnitFailure:
    """In place of commits: why a unit has no result, where the other units of its stage go on."""

    message: str
    """The error's own."""
