"""The progress of a stage in a terminal, by rich: a bar, counts, times, and the last event."""

import sys

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from drop_ray.text.console import error_console
from drop_ray.text.progress import timing


class ProgressBar:
    """One line at the bottom of the terminal, from `start` to `stop`. Its last state stays visible."""

    def __init__(self, stage: str, total: int, unit: str):
        self._progress = Progress(
            _Cut("stage"),
            BarColumn(bar_width=12),
            TextColumn(f"{{task.completed}}/{{task.total}} {unit}", markup=False),
            _Timing(),
            _Cut("note", "dim"),
            console=error_console(),
            refresh_per_second=2,
            # Output to the terminal is printed above the line meanwhile; output to a file stays there.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=total, stage=stage, expected_s=0.0, note="")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.update(self._task, note="")
        self._progress.stop()

    def advance(self, name: str, expected_s: float) -> None:
        """Count one more finished unit. expected_s: seconds that all units are expected to take, 0 if unknown."""
        self._progress.update(self._task, advance=1, expected_s=expected_s, note=name)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


class _Timing(ProgressColumn):
    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text(timing(task.elapsed or 0.0, task.fields["expected_s"]))


class _Cut(ProgressColumn):
    """A text column that is cut off if the terminal is too narrow for all columns."""

    def __init__(self, field: str, style: str = "") -> None:
        super().__init__()
        self._field, self._style = field, style

    def render(self, task: Task) -> Text:
        return Text(task.fields[self._field], self._style, no_wrap=True, overflow="ellipsis")
