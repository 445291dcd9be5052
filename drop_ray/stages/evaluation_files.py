"""The files of an evaluation's artifact."""

import json
from dataclasses import asdict
from pathlib import Path

from drop_ray.evaluation import TaskResult
from drop_ray.job.artifacts import DOCUMENTS, LOGGED_SAMPLES, METRICS
from drop_ray.store.tables import write_table


def write_result(folder: Path, result: TaskResult) -> dict[str, Path]:
    """Write a result into a folder; the files by their logical names. Equal results are equal bytes."""
    files = {METRICS: folder / METRICS, DOCUMENTS: folder / DOCUMENTS}
    values = {"metrics": [asdict(metric) for metric in result.metrics], "raw": result.raw}
    if result.outcomes:
        values["outcomes"] = [asdict(outcome) for outcome in result.outcomes]
    files[METRICS].write_text(json.dumps(values, indent=1, sort_keys=True))
    write_table(result.documents, files[DOCUMENTS])
    if result.samples is not None:
        files[LOGGED_SAMPLES] = folder / LOGGED_SAMPLES
        write_table(result.samples, files[LOGGED_SAMPLES])
    return files
