"""`drop-ray compare-paper CONFIG`: a finished run of one of the paper's models beside the paper's figures."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from drop_ray.commands.arguments import add_command, add_config, read_config

if TYPE_CHECKING:
    from drop_ray.report.paper import PaperRow
    from drop_ray.report.paper_figures import PaperModel
    from drop_ray.report.results import Results

Part = str | tuple[Sequence[str], Sequence[Sequence[str]]]
"""A sentence, or a table: headings and rows. Headings of numbers end with a space."""


def add(subparsers: Any) -> None:
    command = add_command(
        subparsers, "compare-paper", "a finished run beside the figures that the paper publishes", run
    )
    add_config(command)
    command.add_argument("--model", help="the paper's model to compare with, where the run's name does not say it")
    command.add_argument("--markdown", action="store_true", help="tables as Markdown")


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.report.paper import model_of
    from drop_ray.sharing.finished_run import read_results
    from drop_ray.text.console import show

    results = read_results(config)
    model = model_of(results.run.model, results.run.num_layers or None, options.model)
    parts = comparison(results, model)
    show(markdown_lines(parts) if options.markdown else terminal_lines(parts))
    return 0


def comparison(results: "Results", model: "PaperModel") -> Iterator[Part]:
    """Everything that is said: averages, speeds and gamma, single tasks, drop lists, and what is not alike."""
    from drop_ray.report.paper import drop_list_rows, figure_rows, of_paper_tasks, task_notes
    from drop_ray.report.paper_figures import SOURCE
    from drop_ray.report.statistics import averaged_tasks

    yield f"{results.run.model} beside {model.name} of {SOURCE}."
    layers = results.run.num_layers
    if layers and layers != model.num_layers:
        yield f"Not the same model: {layers} layers here, {model.num_layers} in the paper's."
    headings = ("plan", "figure", "paper ", "ours (95 % interval)", "differs ", "inside")
    rows = figure_rows(results, model)
    places = [*dict.fromkeys(row.place for row in rows if row.place)]
    yield headings, [_figure_cells(row, len(places) > 1) for row in rows]
    yield "inside: whether the paper's value lies in our interval. Averages and changes to the base are in points."
    averaged = [task.task for task in averaged_tasks(of_paper_tasks(results))]
    yield f"Our averages are over: {', '.join(averaged) or 'nothing, since no task of the paper is evaluated'}."
    yield "The paper's are over as many as stand beside them, where it is known; which ones is not recorded here."
    yield "Speedups are of output tokens per second, on other hardware and engines than the paper's."
    if len(places) == 1:
        yield f"They and gamma are of {places[0]}: prompt + output tokens x requests at a time."
    if model.note:
        yield model.note
    yield "The paper's accuracies of single tasks are not recorded here; ours, in points:"
    yield ("plan", "task", "metric", "shots ", "paper ", "ours (95 % interval)"), _task_cells(results)
    notes = [*task_notes(results)]
    metrics = sorted({row.metric for row in results.variants if row.metric not in (None, "cosine")})
    notes += [f"plans follow {metric} here, cosine in the paper" for metric in metrics]
    yield from (f"- {note}" for note in notes)
    if lists := [*drop_list_rows(results, model)]:
        cells = [
            (row.plan, _layers(row.paper), "not in the run" if row.ours is None else _layers(row.ours), _overlap(row))
            for row in lists
        ]
        yield ("plan", "paper drops", "ours", "shared"), cells
    else:
        yield f"No drop lists of {model.name} are published."


def terminal_lines(parts: Iterator[Part]) -> Iterator[str]:
    from drop_ray.text.console import console_of
    from drop_ray.text.tables import names, numbers, table_lines, words

    console = console_of(sys.stdout)
    for part in parts:
        if isinstance(part, str):
            yield from table_lines(console, (words(),), [(part,)])
            continue
        headings, rows = part
        first, *others = headings
        columns = [numbers(one.strip()) if one.endswith(" ") else words(one) for one in others]
        yield ""
        yield from table_lines(console, (names(first), *columns), rows)
        yield ""


def markdown_lines(parts: Iterator[Part]) -> Iterator[str]:
    from tabulate import tabulate

    from drop_ray.report.markdown import escaped

    for part in parts:
        if isinstance(part, str):
            yield escaped(part)
        else:
            headings, rows = part
            aligns = ["right" if one.endswith(" ") else "left" for one in headings]
            cells = [[*map(escaped, row)] for row in rows]
            table = tabulate(
                cells, headings, tablefmt="pipe", colalign=aligns if cells else None, disable_numparse=True
            )
            yield str(table)
        yield ""


def _figure_cells(row: "PaperRow", has_places: bool) -> tuple[str, ...]:
    digits, sign = (1, "") if row.figure == "average" else (1, "+") if row.figure == "change" else (2, "")
    figure = " ".join(
        filter(None, (row.figure, row.place * has_places, f"of {row.num_tasks}" if row.num_tasks else ""))
    )
    ours = row.why if row.ours is None else _with_interval(row.ours, row.low, row.high, f"{sign}.{max(digits, 2)}f")
    differs = "-" if row.difference is None else f"{row.difference:+.2f}"
    inside = {None: "-", True: "yes", False: "no"}[row.inside]
    return row.plan, figure, "-" if row.paper is None else f"{row.paper:{sign}.{digits}f}", ours or "-", differs, inside


def _task_cells(results: "Results") -> list[tuple[str, ...]]:
    from drop_ray.report.serving import POINTS
    from drop_ray.serving.sdr import NORMAL_975

    cells: list[tuple[str, ...]] = []
    for row in results.evaluations:
        if row.primary:
            scale = POINTS if row.higher_is_better else 1
            value, half = scale * row.value, None if row.stderr is None else NORMAL_975 * scale * row.stderr
            low, high = (None, None) if half is None else (value - half, value + half)
            shots = "-" if row.num_fewshot is None else str(row.num_fewshot)
            cells.append((row.variant, row.task, row.metric, shots, "-", _with_interval(value, low, high, ".2f")))
    return cells


def _with_interval(value: float, low: float | None, high: float | None, form: str) -> str:
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} ({low:{form}} to {high:{form}})"


def _layers(layers: Sequence[int]) -> str:
    return " ".join(map(str, layers))


def _overlap(row: Any) -> str:
    return "-" if row.ours is None else f"{row.shared} of {len(row.paper)}"
