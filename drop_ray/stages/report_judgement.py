"""Makes rows of how sure variants are of their answers, and of which variants were evaluated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from drop_ray.evaluation.confidence import CONFIDENCE, calibration_of
from drop_ray.job.run_state import RunState
from drop_ray.report.judgement import CalibrationRow, ScreenRow
from drop_ray.stages.report_evaluations import Evaluated

Answers = Mapping[tuple[str, int], tuple[float, bool]]
"""Confidence, and whether the most likely choice is right, by document."""


def calibration_rows(variant: str, result: Evaluated, base: Evaluated) -> Iterator[CalibrationRow]:
    """A row for each multiple-choice task or group that counts; without numbers where the artifact has none."""
    for metric in result.metrics:
        if not metric["primary"] or not _is_multiple_choice(result, metric["task"]):
            continue
        own, of_base = _answers(result, metric["task"]), _answers(base, metric["task"])
        if not own:
            yield CalibrationRow(variant, metric["task"], 0, None, None, None, None)
            continue
        found = calibration_of(*_columns(own.values()))
        same = [of_base[document] for document in own if document in of_base]
        base_error = calibration_of(*_columns(same)).error if len(same) == len(own) else None
        yield CalibrationRow(
            *(variant, metric["task"], found.documents, found.accuracy, found.confidence, found.error, base_error)
        )


def screen_rows(run: RunState) -> list[ScreenRow]:
    """Which variants were evaluated, in their order; none where all were."""
    return [
        ScreenRow(variant.name, *run.screened[variant.name]) for variant in run.variants if variant.name in run.screened
    ]


def _is_multiple_choice(result: Evaluated, task: str) -> bool:
    """Whether all tasks of a task or group that reports `acc` are."""
    tasks = {row["task"] for row in result.rows_of(task, "acc", "none")}
    configs: Mapping[str, Mapping[str, Any]] = result.raw.get("configs", {})
    return bool(tasks) and all(configs.get(name, {}).get("output_type") == "multiple_choice" for name in tasks)


def _answers(result: Evaluated, task: str) -> Answers:
    right = {(row["task"], row["doc_id"]): row["value"] == 1 for row in result.rows_of(task, "acc", "none")}
    return {
        place: (row["value"], right[place])
        for row in result.rows_of(task, CONFIDENCE, "none")
        if (place := (row["task"], row["doc_id"])) in right
    }


def _columns(answers: Iterable[tuple[float, bool]]) -> tuple[Sequence[float], Sequence[bool]]:
    confidences, right = zip(*answers, strict=True)
    return confidences, right
