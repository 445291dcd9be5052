"""What the units of a run took, from their commits, and what was expected of them."""

from collections.abc import Iterator, Mapping

from drop_ray.errors import UserError
from drop_ray.job.ledger import Entry
from drop_ray.job.run_state import RunState
from drop_ray.report.costs import CostRow
from drop_ray.report.results import grouped
from drop_ray.stages.forecast import forecast
from drop_ray.store import Commit


def cost_rows(run: RunState) -> Iterator[CostRow]:
    """A row for each stage whose units workers did."""
    expected = _expected_gpu_seconds(run)
    for stage, entries in grouped(run.ledger.entries, lambda entry: entry.stage).items():
        commits = list(_by_workers(entries))
        if commits:
            yield _row(stage, run.job.config.name, commits, expected.get(stage))


def _by_workers(entries: list[Entry]) -> Iterator[Commit]:
    """Those whose record says on which node they were done; the driver's do not."""
    for entry in entries:
        if entry.commit is not None and "node" in entry.commit.provenance:
            yield entry.commit


def _row(stage: str, run: str, commits: list[Commit], expected: float | None) -> CostRow:
    known = [(commit, measured) for commit in commits if (measured := _measured(commit))]
    own = [measured for commit, measured in known if commit.provenance.get("run") == run]
    others = [measured for commit, measured in known if commit.provenance.get("run") != run]
    return CostRow(
        stage=stage,
        units=len(commits),
        reused_units=len(others),
        unmeasured_units=len(commits) - len(known),
        worker_seconds=sum(one["seconds"] for one in own),
        gpu_seconds=sum(one["seconds"] * one["gpus"] for one in own),
        reused_worker_seconds=sum(one["seconds"] for one in others),
        reused_gpu_seconds=sum(one["seconds"] * one["gpus"] for one in others),
        expected_gpu_seconds=expected,
        asked_tokens=round(sum(one.get("asked_tokens", 0) for _, one in known)),
        computed_tokens=round(sum(one.get("computed_tokens", 0) for _, one in known)),
    )


def _measured(commit: Commit) -> Mapping[str, float]:
    """Empty of a unit whose time was not recorded."""
    measured: Mapping[str, float] = commit.provenance.get("measured") or {}
    return measured if {"seconds", "gpus"} <= measured.keys() else {}


def _expected_gpu_seconds(run: RunState) -> dict[str, float]:
    """By stage, of all units; empty where the config states no GPUs."""
    if run.job.config.hardware is None:
        return {}
    found: dict[str, float] = {}
    try:
        for work in forecast(run.job, whole=True):
            if work.expected is not None:
                found[work.stage] = found.get(work.stage, 0.0) + work.expected.gpu_s
    except UserError as error:  # the run went as it did: stated hardware that does not fit it is no failure
        run.tell("the report has no forecast: %s", error)
        return {}
    return found
