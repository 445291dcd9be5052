"""What speaks against an acceptable variant, in clauses that follow its name and a `but`."""

import math
from collections.abc import Sequence

from drop_ray.report.acceptance import AcceptanceRow
from drop_ray.report.formatting import count, number, ratio
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow
from drop_ray.report.serving import SPEEDUP
from drop_ray.report.statistics import averaged_tasks, primary_rows

BEYOND_ROOFLINE = 1.5
"""A speedup whose whole interval is more than so many times the predicted one cannot be right."""
CONTROL_SLACK = 0.01
"""A control so near to 1, as a part of it, has not failed: of many intervals at 95 % some leave out 1 by chance."""


def losses_beside(results: Results, row: AcceptanceRow) -> list[str]:
    """Tasks that lose more than is allowed by themselves, and a regression by the damage gates."""
    base, values, found = results.variants[0].name, primary_rows(results), []
    for task in averaged_tasks(results):
        if task.task in row.falls:
            sides = (values[name, task.task, task.metric].value for name in (base, row.variant))
            before, after = (number(value, 3) for value in sides)
            found.append(f"{task.task} falls from {before} to {after}")
    if any(one.variant == row.variant and one.outcome == "regression" for one in results.verdicts):
        found.append("it is a regression by the damage gates")
    return found


def doubts_of_speed(results: Results, row: ServingRow) -> list[str]:
    """A speedup far beyond the roofline, and a control at its place that is not 1 where it must be."""
    found = []
    if is_beyond_roofline(row):
        found.append(f"its speed is far beyond the roofline, which predicts {ratio(row.predicted or 0.0)}")
    place = (row.workload, row.batch_size)
    for one in failed_controls(results):
        if (one.workload, one.batch_size) == place:
            found.append(f"the base against itself was measured {ratio(one.ratio)} times as fast")
            break
    return found


def faults_of_speed(results: Results, said: Sequence[ServingRow]) -> list[str]:
    """Sentences of speeds that cannot be right, whatever variant they are of; the worst control, and the worst variant.

    said: speedups that are named with their doubts already. If one of them is beyond the roofline, that says it.
    """
    found, places = [], {(row.workload, row.batch_size) for row in said}
    if failed := [row for row in failed_controls(results) if (row.workload, row.batch_size) not in places]:
        worst = max(failed, key=_distance)
        found.append(
            f"The base against itself was measured {ratio(worst.ratio)} times as fast ({_place(worst)}), which must be "
            "1: smaller gains there are none."
        )
    beyond = [row for row in _speedups(results) if is_beyond_roofline(row)]
    if beyond and not any(is_beyond_roofline(row) for row in said):
        worst = max(beyond, key=lambda row: row.ratio / (row.predicted or math.inf))
        others = len({row.variant for row in beyond}) - 1
        more = f", nor can that of {count(others, 'other variant')}" if others else ""
        found.append(
            f"{worst.variant} was measured {ratio(worst.ratio)} times as fast as the base ({_place(worst)}), where the "
            f"roofline predicts {ratio(worst.predicted or 0.0)}: that speed cannot be right{more}."
        )
    return found


def failed_controls(results: Results) -> list[ServingRow]:
    """Speeds of the base against itself whose interval leaves out 1, by more than nothing."""
    rows = [row for row in _speedups(results) if row.control]
    return [row for row in rows if not row.low <= 1 <= row.high and _distance(row) > CONTROL_SLACK]


def is_beyond_roofline(row: ServingRow) -> bool:
    """Whether the whole interval is far above what bytes and FLOPs allow."""
    return row.predicted is not None and row.low > BEYOND_ROOFLINE * row.predicted


def _distance(row: ServingRow) -> float:
    return abs(math.log(row.ratio))


def _speedups(results: Results) -> list[ServingRow]:
    return [row for row in results.serving if row.metric == SPEEDUP and row.comparison == "equal_batch"]


def _place(row: ServingRow) -> str:
    return f"{row.workload}, batch {row.batch_size}"
