"""Selections of the score rows that both renderers show: the base's layers, iteration states, block windows."""

from collections.abc import Sequence

from drop_ray.report.results import ScoreRow
from drop_ray.report.score_charts import HeatRow

METRICS_TEXT = "cosine: 1 \u2212 cos; angular: the angle, of which a half turn is 1"
MODULES: tuple[str, ...] = ("attention", "mlp", "block")
BASE_STATE = "base"


def by_metric(scores: Sequence[ScoreRow]) -> dict[str, list[ScoreRow]]:
    """The rows of each metric, which no chart or table mixes; in order of appearance."""
    metrics = dict.fromkeys(row.metric for row in scores)
    return {metric: [row for row in scores if row.metric == metric] for metric in metrics}


def layer_scores(scores: Sequence[ScoreRow]) -> list[ScoreRow]:
    """The base's scores of single layers, by module and layer."""
    rows = [row for row in scores if row.drop_state == BASE_STATE and row.gap == 1]
    return sorted(rows, key=lambda row: (MODULES.index(row.module), row.layer))


def heat_rows(scores: Sequence[ScoreRow]) -> list[tuple[str, list[HeatRow]]]:
    """(title, rows) of the heat maps of one metric: a module over the iteration states, and the block windows.

    A module that was scored in one state only has nothing to compare and gets no map.
    """
    maps = []
    states = list(dict.fromkeys(row.drop_state for row in scores))
    for module in MODULES:
        rows = [row for row in scores if row.module == module and row.gap == 1]
        scored = [state for state in states if any(row.drop_state == state for row in rows)]
        if len(scored) > 1:
            title = f"{module}: importance as plans grow step by step"
            maps.append(
                (title, [_heat_row(state, [row for row in rows if row.drop_state == state]) for state in scored])
            )
    windows = [row for row in scores if row.gap > 1]
    if windows:
        keys = dict.fromkeys((row.drop_state, row.gap) for row in windows)
        rows_by_window = [
            _heat_row(
                f"{gap} blocks" if state == BASE_STATE else f"{state}, {gap} blocks",
                [row for row in windows if (row.drop_state, row.gap) == (state, gap)],
            )
            for state, gap in keys
        ]
        maps.append(("block windows: importance by first layer", rows_by_window))
    return maps


def score_table(scores: Sequence[ScoreRow]) -> list[tuple[int, dict[str, ScoreRow]]]:
    """(layer, module -> score) of the base's single layers in one metric, by layer."""
    table: dict[int, dict[str, ScoreRow]] = {}
    for row in layer_scores(scores):
        table.setdefault(row.layer, {})[row.module] = row
    return sorted(table.items())


def _heat_row(label: str, rows: Sequence[ScoreRow]) -> HeatRow:
    return HeatRow(label, {row.layer: row for row in rows})
