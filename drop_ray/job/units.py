"""Units of work: what one worker does in one piece, and commits under its step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        """Its name for people, unique in its stage."""

    @property
    def title(self) -> str:
        """Title of its stage in progress lines; empty where the stage's name says it all."""
        return ""

    @property
    @abstractmethod
    def model_key(self) -> object:
        """Equal for shares that need the same model, which a worker keeps."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Equal for shares that take about as long as each other."""

    @property
    @abstractmethod
    def steps(self) -> Sequence[Step]:
        """The steps of its units."""

    @property
    def tokens(self) -> int:
        """Number of tokens that it scores, for the metrics."""
        return 0

    @abstractmethod
    def run(self, worker: "Worker") -> list[Commit]:
        """Do its units, in a worker. Units that are committed already are not done again."""


@dataclass(frozen=True)
class Unit(Share):
    """One step, done by one worker."""

    label: str
    """Its name for people, unique in its stage."""
    step: Step
    """What it computes, and where that is committed."""
    line: str
    """The line of the dry run that it counts for."""

    @property
    def name(self) -> str:
        return self.label

    @property
    def kind(self) -> str:
        return self.line

    @property
    def steps(self) -> Sequence[Step]:
        return (self.step,)

    def bound(self, run: "RunState") -> "Unit":
        """This unit with the results of earlier stages that it needs, ready to be sent."""
        del run
        return self

    def run(self, worker: "Worker") -> list[Commit]:
        done = worker.store.find(self.step)
        return [self.work(worker) if done is None else done]

    @abstractmethod
    def work(self, worker: "Worker") -> Commit:
        """Compute the step and commit it."""


@dataclass(frozen=True)
class Sweep(Share):
    """Units of one model that are done together in one pass over its layers."""

    units: tuple[Unit, ...]
    """The units, at least one."""

    @property
    def model_key(self) -> object:
        return self.units[0].model_key

    @property
    def steps(self) -> Sequence[Step]:
        return tuple(unit.step for unit in self.units)

    def run(self, worker: "Worker") -> list[Commit]:
        found = {unit.step.path: worker.store.find(unit.step) for unit in self.units}
        left = tuple(unit for unit in self.units if found[unit.step.path] is None)
        done = [commit for commit in found.values() if commit is not None]
        return [*done, *replace(self, units=left).sweep(worker)] if left else done

    @abstractmethod
    def sweep(self, worker: "Worker") -> list[Commit]:
        """Compute all units and commit each."""


@dataclass(frozen=True)
class LocalUnit:
    """One step that the driver does itself, since sending its inputs would take longer."""

    label: str
    """Its name for people, unique in its stage."""
    step: Step
    """What it computes, and where that is committed."""
    line: str
    """The line of the dry run that it counts for; empty for none."""
    make: Callable[[], Commit]
    """Computes the step and commits it."""
    made_of: Mapping[str, str] | None = None
    """Checksums of the units that it is made of; if the store has one made of other units, it is made anew."""


@dataclass(frozen=True)
class WorkerRequest:
    """The workers that a stage's units need."""

    pool: str = "torch"
    """Workers of one pool share their processes; those of another pool end first."""
    num_workers: int | None = None
    """Number of workers; None takes as many as compute on all GPUs of `execution` (`layout.layout_of`)."""
    num_gpus: float | None = None
    """Number of GPUs of each worker, as an engine needs them; None takes one, or as many as hold `model_bytes`."""
    model_bytes: int = 0
    """Bytes of the largest model that a worker holds whole, over all of its GPUs; 0 if it computes on one GPU."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that the worker processes start with."""


@dataclass(frozen=True)
class UnitFailure:
    """Returned in place of commits: why a unit has no result, in a stage whose other units go on."""

    message: str
    """Message of the error."""
