"""`drop-ray run --dry-run`: runs the stages with a state that counts units in place of doing them.

Plans depend on scores: until those are there, a plan's evaluations are counted, and sized as if nothing were dropped.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from drop_ray.config import RunConfig
from drop_ray.errors import CorruptArtifactError
from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.job.expected import Expected, Phase, expect, total
from drop_ray.job.job import Job
from drop_ray.job.layout import layout_of
from drop_ray.job.ledger import Ledger
from drop_ray.job.opening import open_job
from drop_ray.job.run_state import NotDoneError, RunState
from drop_ray.job.stage import Cost, Stage, Work
from drop_ray.job.units import LocalUnit, Share, Unit, WorkerRequest
from drop_ray.stages.catalog import STAGES
from drop_ray.stages.dry_run_table import dry_run_lines, hardware_lines, token_lines
from drop_ray.store import Commit
from drop_ray.text.console import PLAIN


class DryRun(RunState):
    """Does and writes nothing; it keeps a line for each part of the work."""

    only_counts = True

    def __init__(self, job: Job, whole: bool = False):
        """whole: the cost of all units, and not only of those that are not done."""
        super().__init__(job, Ledger(job.store, job.run_folder), _Nobody())
        self.works: dict[str, Work] = {}
        self._whole = whole
        self._found: dict[str, Commit | None] = {}

    def complete(self, stage: Stage, units: Sequence[Unit | LocalUnit]) -> list[Commit | None]:
        """The commits of the units that are done, None for others. Every unit is counted once."""
        lines: dict[str, list[Unit | LocalUnit]] = {}
        new = {unit.step.path: unit for unit in units if unit.step.path not in self._found}
        found = self.ledger.look(unit.step for unit in new.values())
        for path, unit in new.items():
            commit = found[path]
            # A corrupt artifact would be done again.
            self._found[path] = None if isinstance(commit, CorruptArtifactError) else commit
            if unit.line:
                lines.setdefault(unit.line, []).append(unit)
        for line, members in lines.items():
            todo = [unit for unit in members if self._found[unit.step.path] is None]
            counted = [unit for unit in (members if self._whole else todo) if isinstance(unit, Unit)]
            cost = stage.cost(self, line, counted)
            expected = self._expected(stage, counted, cost)
            self._add(Work(line, len(members), len(todo), cost, stage.name, expected))
        return [self._found[unit.step.path] for unit in units]

    def write(self, name: str, data: bytes) -> None:
        """A dry run leaves the run's folder as it is."""

    def tell(self, message: str, *arguments: object) -> None:
        """Log nothing: a dry run prints lines."""

    def _add(self, work: Work) -> None:
        """Add work to the line of its name: evaluation in 16 bits and of quantized variants is one line."""
        before = self.works.get(work.name)
        if before is not None:
            num_bytes, flops = before.cost.num_bytes + work.cost.num_bytes, before.cost.flops + work.cost.flops
            cost = Cost(num_bytes, flops, work.cost.note or before.cost.note)
            work = replace(
                work,
                units=before.units + work.units,
                todo=before.todo + work.todo,
                cost=cost,
                expected=total([before.expected, work.expected]),
            )
        self.works[work.name] = work

    def _expected(self, stage: Stage, units: Sequence[Unit], cost: Cost) -> Expected | None:
        """What the units take on the stated GPUs; None where none are stated, or it is unknown what is computed."""
        hardware = self.job.config.hardware
        phases = cost.phases or ((Phase(cost.flops),) if cost.flops else ())
        if hardware is None or not units or not phases:
            return None
        layout = layout_of(self.job.config.execution, stage.workers(self, units), int(hardware.peak.memory))
        return expect(phases, hardware, layout, len(units) if cost.at_once is None else cost.at_once)


@dataclass(frozen=True)
class Forecast:
    """What a run would do, and what that takes."""

    config: RunConfig
    """The run's config."""
    works: tuple[Work, ...]
    """A line for each part of the work, in the order of the stages."""
    flops: int
    """Those of a forward pass of the base over 1000 tokens."""
    stays: tuple[str, ...]
    """What cannot be dropped of the base, and why."""
    volumes: Mapping[str, TaskVolume | None]
    """The tokens of the tasks that were counted; None where neither data nor published size are here."""

    def lines(self, console: Console = PLAIN) -> Iterator[str]:
        """A table of the work, then the tokens of the tasks, then the hours."""
        yield from dry_run_lines(self.works, self.flops, console, self.stays)
        yield from token_lines(self.volumes, self.config.evaluation, console)
        yield from hardware_lines(self.works, self.config.execution)

    def as_json(self) -> dict[str, Any]:
        """The same for programs: bytes, operations, GPU-hours and hours of what is not done; null where unknown."""
        return {
            "run": self.config.name,
            "todo": sum(work.todo for work in self.works),
            "steps": [_step_json(work) for work in self.works],
            "expected": _expected_json(total([work.expected for work in self.works])),
            "forward_flops_per_1000_tokens": self.flops,
            "stays": self.stays,
            "tasks": {name: volume and asdict(volume) for name, volume in self.volumes.items()},
        }


def _step_json(work: Work) -> dict[str, Any]:
    return {
        "step": work.name,
        "stage": work.stage,
        "units": work.units,
        "todo": work.todo,
        "bytes": work.cost.num_bytes or None,
        "flops": work.cost.flops or None,
        "note": work.cost.note,
        "expected": _expected_json(work.expected),
    }


def _expected_json(found: Expected | None) -> dict[str, float] | None:
    return {"gpu_hours": found.gpu_hours, "hours": found.wall_hours, "gpus": found.gpus} if found else None


class _Nobody:
    """Stands in for the cluster, which a dry run does not need."""

    def worker_bytes(self, job: Job) -> int:
        """Of the GPUs that the config states."""
        assert job.config.hardware is not None, f"a dry run asked for the cluster of {job.config.name}"
        wanted = job.config.execution.gpus_per_worker
        return int(job.config.hardware.peak.memory * (1 if wanted == "auto" else min(wanted, 1)))

    def prepare(self, job: Job, stage: Stage, workers: WorkerRequest) -> None:
        raise AssertionError(f"a dry run of {job.config.name} asked for workers of {stage.name}: {workers}")

    def send(self, job: Job, stage: Stage, shares: Sequence[Share], workers: WorkerRequest) -> Iterator[Commit]:
        raise AssertionError(f"a dry run of {job.config.name} sent {len(shares)} of {stage.name} to {workers}")


def forecast(job: Job, whole: bool = False) -> Iterator[Work]:
    """One line for each stage or part of a stage. The calibration text is tokenized if the store has no samples.

    whole: the cost of all units, and not only of those that are not done.
    """
    run = DryRun(job, whole)
    for entry in STAGES[:-1]:
        stage = entry.load()
        with suppress(NotDoneError):
            stage.run(run)
        if stage.own_work is not None:
            run.works[stage.name] = stage.own_work(run)
    yield from run.works.values()


def forecast_lines(config: RunConfig, console: Console = PLAIN) -> Iterator[str]:
    """The lines of `forecast_run`."""
    return forecast_run(config).lines(console)


def forecast_run(config: RunConfig) -> Forecast:
    """The dry run. UserError if the config does not fit."""
    job = open_job(config)
    works = tuple(forecast(job))
    return Forecast(
        config,
        works,
        flops=job.size.forward_flops(job.base_drops, 1000, config.calibration.seq_len),
        stays=tuple(job.size.layers.stays),
        volumes=job.volumes.counted,
    )
