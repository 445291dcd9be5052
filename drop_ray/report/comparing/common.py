"""What finished runs have in common, and so may be compared: tasks on the same documents, texts, and speeds.

Whether two runs asked the same is read from the identities of their evaluations, which say everything that decides
them. The model's own part is left out, as that is what is compared.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drop_ray.report.divergence import kl_by_sample
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow, VariantRow
from drop_ray.report.serving import SPEEDUP
from drop_ray.report.statistics import Task, averaged_tasks, documents_by_task, primary_tasks
from drop_ray.store.identity import difference

OF_TASKS = ("task", "seed", "apply_chat_template", "system_instruction", "max_length")
"""What of an evaluation's identity decides which documents it asks about, and how."""
OF_TEXTS = ("text", "shuffle_seed", "text_field", "num_samples", "seq_len", "model")
"""The same of a perplexity. Its documents are token sequences, so the base, which has the tokenizer, must be one."""
OF_PANELS = ("text", "model")
"""The same of a divergence panel."""
SHOWN = 3
"""Differences that a reason names."""

Asked = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Side:
    """One run."""

    label: str
    """Its name, told apart from others of the same name."""
    results: Results
    """Its tables."""

    @property
    def base(self) -> VariantRow:
        return self.results.variants[0]

    @cached_property
    def asked(self) -> dict[str, Asked]:
        """By name of the task or text, what decides its documents; of the divergence by the name `kl`."""
        found: dict[str, Asked] = {}
        for row in self.results.artifacts:
            identity: Any = json.loads(row.identity) if isinstance(row.identity, str) else row.identity
            if row.step == "evaluate":
                task = identity["task"]
                asked = {key: identity.get(key) for key in OF_TASKS}
                found |= dict.fromkeys({task["name"], *task.get("configs", {})}, asked)
            elif row.step == "perplexity":
                found[identity["name"]] = {key: identity.get(key) for key in OF_TEXTS}
            elif row.step == "diverge":
                found["kl"] = {key: identity.get(key) for key in OF_PANELS}
        return found

    @cached_property
    def documents(self) -> Mapping[tuple[str, str, str], Mapping[int, float]]:
        return documents_by_task(self.results)

    @cached_property
    def kl(self) -> Mapping[str, Mapping[int, float]]:
        return kl_by_sample(self.results)

    @cached_property
    def tasks(self) -> dict[tuple[str, str], Task]:
        return {(task.task, task.metric): task for task in primary_tasks(self.results)}


def sides_of(runs: Sequence[Results]) -> list[Side]:
    """One for each run; of equal names the second is `name (2)`."""
    names = [run.run.name for run in runs]
    return [
        Side(name if names.count(name) == 1 else f"{name} ({names[: index + 1].count(name)})", run)
        for index, (name, run) in enumerate(zip(names, runs, strict=True))
    ]


def common_tasks(sides: Sequence[Side]) -> list[Task]:
    """The primary tasks and texts that all runs asked in the same way, in the first one's order."""
    first, *others = sides
    return [
        task
        for place, task in first.tasks.items()
        if all(place in other.tasks and _why_not(first, other, task) is None for other in others)
    ]


def common_averaged(sides: Sequence[Side]) -> list[Task]:
    """Those of `common_tasks` that averages are of."""
    of_first = averaged_tasks(sides[0].results)
    return [task for task in common_tasks(sides) if task in of_first]


def reasons(sides: Sequence[Side]) -> Iterator[str]:
    """What cannot be compared, a sentence each."""
    first, *others = sides
    for other in others:
        for name in dict.fromkeys((*first.tasks, *other.tasks)):
            if name not in other.tasks or name not in first.tasks:
                has, lacks = (first, other) if name in first.tasks else (other, first)
                yield f"{name[0]} ({name[1]}): {has.label} evaluated it, {lacks.label} did not."
            elif why := _why_not(first, other, first.tasks[name]):
                yield f"{name[0]} ({name[1]}): {first.label} and {other.label} did not ask the same: {why}."
        yield from _of_panels(first, other)
        yield from _of_speeds(first, other)


def common_speed(sides: Sequence[Side]) -> list[dict[str, ServingRow]] | None:
    """Speedups by variant of each run, in the workload and at the batch that all have; None where there is none."""
    measured = [_speeds(side) for side in sides]
    shared = set(measured[0]).intersection(*measured[1:])
    return [found[max(shared, key=lambda place: (place[1], place[0]))] for found in measured] if shared else None


def comparable_panels(sides: Sequence[Side]) -> bool:
    """Whether all runs took KL to the same base, on the same text."""
    first = sides[0].asked.get("kl")
    return first is not None and all(side.asked.get("kl") == first for side in sides)


def _why_not(one: Side, other: Side, task: Task) -> str | None:
    """Why the documents of a task that both evaluated cannot be paired; None where they can."""
    beside = other.tasks[task.task, task.metric]
    if beside.num_fewshot != task.num_fewshot:
        return f"{task.num_fewshot} and {beside.num_fewshot} shots"
    of_one, of_other = (side.asked.get(task.task) for side in (one, other))
    if of_one is None or of_other is None:
        return "what was asked is not recorded"
    return _spelled(of_one, of_other) if of_one != of_other else None


def _of_panels(one: Side, other: Side) -> Iterator[str]:
    asked = [side.asked["kl"] for side in (one, other) if "kl" in side.asked]
    if len(asked) == 2 and asked[0] != asked[1]:
        parts = {"model": "to other bases", "text": "on other texts"}
        said = " and ".join(text for part, text in parts.items() if asked[0][part] != asked[1][part])
        yield f"KL: {one.label} and {other.label} took it {said}."


def _of_speeds(one: Side, other: Side) -> Iterator[str]:
    speeds = [_speeds(side) for side in (one, other)]
    if bool(speeds[0]) != bool(speeds[1]):
        has, lacks = (one, other) if speeds[0] else (other, one)
        yield f"Speed: {has.label} was benchmarked, {lacks.label} was not."
    elif speeds[0] and not {*speeds[0]} & {*speeds[1]}:
        yield f"Speed: {one.label} and {other.label} have no workload and batch in common."
    devices = [{(row.engine, row.engine_version, row.device) for row in side.results.engines} for side in (one, other)]
    if all(devices) and devices[0] != devices[1]:
        yield (
            f"Speed: {one.label} and {other.label} were measured on other engines or devices; each speedup is to the "
            "base on its own."
        )


def _speeds(side: Side) -> dict[tuple[str, int], dict[str, ServingRow]]:
    found: dict[tuple[str, int], dict[str, ServingRow]] = {}
    for row in side.results.serving:
        if row.metric == SPEEDUP and row.comparison == "equal_batch" and not row.control:
            found.setdefault((row.workload, row.batch_size), {})[row.variant] = row
    return found


def _spelled(one: Asked, other: Asked) -> str:
    """The fields that differ, with short values; long ones and hashes are named alone."""
    said = dict.fromkeys(map(_short, difference(one, other)))
    more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return "; ".join([*[*said][:SHOWN], *more])


def _short(line: str) -> str:
    path, _, values = line.partition(": ")
    if path == "model":
        return "other base models"
    return f"{path} {values}" if len(values) <= 40 else f"{path} differs"
