"""A stage of the pipeline as a value: how its units are found, who does them, and what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drop_ray.job.expected import Expected, Phase
from drop_ray.job.units import Share, Unit, WorkerRequest

if TYPE_CHECKING:
    from drop_ray.config import RunConfig
    from drop_ray.job.run_state import RunState


@dataclass(frozen=True)
class Cost:
    """What units take, as far as it is known beforehand."""

    num_bytes: int = 0
    """Bytes read or written, whichever the stage does more of; 0 where unknown."""
    flops: int = 0
    """Number of floating point operations; 0 where unknown."""
    note: str = ""
    """A remark for people."""
    phases: tuple[Phase, ...] = ()
    """What its time on GPUs is made of, one after the other; none is the operations alone."""
    at_once: int | None = None
    """Number of workers that find work at the same time; None is the number of units."""


@dataclass(frozen=True)
class Work:
    """A line of the dry run."""

    name: str
    """Name of the stage, and of the part of it that the line is about."""
    units: int
    """Number of units, done or not."""
    todo: int
    """Number of units that are not done."""
    cost: Cost = Cost()
    """Cost of the units that are not done."""
    stage: str = ""
    """Name of the stage of the units; empty where there are none."""
    expected: Expected | None = None
    """What that takes on the GPUs of `execution.hardware`; None where these are not stated, or nothing is computed."""


def _all_todo(run: "RunState", todo: Sequence[Unit]) -> Sequence[Share]:
    del run
    return todo


def _torch_workers(run: "RunState", todo: Sequence[Unit]) -> WorkerRequest:
    del run, todo
    return WorkerRequest()


def _unknown(run: "RunState", line: str, todo: Sequence[Unit]) -> Cost:
    del run, line, todo
    return Cost()


@dataclass(frozen=True)
class Stage:
    """All units of one kind, and what is made of them.

    Its `run` lists the units, has `RunState.complete` do those that are not done, and takes up what they gave. In a dry
    run the same function meets a `DryRun`, which does nothing and counts.
    """

    name: str
    """Its name in logs, metrics and the list of units; also of the command that ends with it."""
    noun: str
    """What its units are, in progress lines."""
    run: Callable[["RunState"], None]
    """Does the stage. Raises NotDoneError in a dry run, where it needs what is still to be computed."""
    workers: Callable[["RunState", Sequence[Unit]], WorkerRequest] = _torch_workers
    """The workers that the given units need."""
    shares: Callable[["RunState", Sequence[Unit]], Sequence[Share]] = _all_todo
    """Puts the given units together into shares."""
    cost: Callable[["RunState", str, Sequence[Unit]], Cost] = _unknown
    """Cost of the given units, which are those of one line of the dry run."""
    own_work: Callable[["RunState"], Work] | None = None
    """The line of the dry run of a stage that has no units."""
    check_last: Callable[["RunConfig"], None] | None = None
    """Called if it is the last stage of a run: UserError if the config does not say what it is to do."""
    goes_on: bool = False
    """Whether the other units are still tried after one has failed; failures are raised at the end."""
