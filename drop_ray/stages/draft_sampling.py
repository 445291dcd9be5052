"""Whether drafts may be measured while tokens are drawn: a unit for each temperature, the base as its own draft."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLING
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit
from drop_ray.job.worker import Worker
from drop_ray.serving.draft_sampling import run_sampling_gate
from drop_ray.serving.sampling_gate import SamplingGate
from drop_ray.stages.drafts import DraftUnit, at, chosen_drafts, draft_folders, draft_spec, drafts_of
from drop_ray.stages.engine_units import of_run
from drop_ray.store import Commit


@dataclass(frozen=True)
class SamplingUnit(DraftUnit):
    """The gate of sampling at one temperature; its variant is the base."""

    def work(self, worker: Worker) -> Commit:
        with draft_folders(worker, self) as (folder, weights), tempfile.TemporaryDirectory() as scratch:
            found = run_sampling_gate(draft_spec(worker, self, folder, weights), self.num_drafted)
            path = Path(scratch) / SAMPLING
            path.write_text(json.dumps(asdict(found), indent=1, sort_keys=True))
            return worker.commit(self.step, {SAMPLING: path})


def sampling_units(run: RunState) -> list[SamplingUnit]:
    """A unit for each temperature, with the largest number of drafted tokens; none where nothing drafts."""
    serving = run.job.config.serving
    if serving is None or serving.drafts is None or not run.variants or not chosen_drafts(run):
        return []
    tokens = max(serving.drafts.tokens)
    return [
        SamplingUnit(
            label=f"the base as its own draft{at(temperature)}",
            step=steps.sampling_step(run.job, tokens, temperature),
            line="sampling gate",
            variant=run.base,
            num_drafted=tokens,
            temperature=temperature,
            **of_run(run),
        )
        for temperature in drafts_of(serving).temperatures
    ]


def allowed_temperatures(run: RunState, stage: Stage) -> list[float]:
    """The temperatures at which the gate holds. It is a result where it does not, and said."""
    units, allowed = sampling_units(run), []
    for unit, commit in zip(
        units, run.complete(replace(stage, noun="gates of sampling", cost=_cost), units), strict=True
    ):
        if commit is None:
            continue
        found = read_gate(run, commit)
        run.sampling[unit.temperature] = found
        if found.holds:
            allowed.append(unit.temperature)
        else:
            run.tell("drafts%s are not measured: %s", at(unit.temperature), "; ".join(found.reasons))
    return allowed


def read_gate(run: RunState, commit: Commit) -> SamplingGate:
    """What a unit has left."""
    stored = json.loads(run.job.store.read_bytes(commit, SAMPLING))
    return SamplingGate(**{**stored, "kept": tuple(stored["kept"])})


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    del run, line
    return Cost(note="vllm; drafts that sample are counted once it holds" if todo else "")
