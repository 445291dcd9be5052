"""The progress of a stage in a terminal, by rich: a bar, counts, times, and the last event."""

import sys

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from drop_ray.text.console import error_console
from drop_ray.text.time_left import TimeLeft, timing

NARROW = 100
STAGE_WIDTH = 12


class ProgressBar:
    """One line at the bottom of the terminal, from `start` to `stop`. Its last state stays visible."""

    def __init__(self, stage: str, total: int, unit: str):
        self._progress = Progress(
            _Cut("stage", min_width=min(len(stage), STAGE_WIDTH)),
            BarColumn(bar_width=12),
            TextColumn(f"{{task.fields[done]}}/{{task.total}} {unit}", markup=False),
            _Timing(),
            _Cut("note", "dim"),
            console=error_console(),
            refresh_per_second=2,
            # Output to the terminal is printed above the line meanwhile; output to a file stays there.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=total, stage=stage, done=0, left=None, note="")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.update(self._task, left=None, note="")
        self._progress.stop()

    def show(self, done: int, completed: float, left: TimeLeft | None, note: str) -> None:
        """done: number of finished units; completed: the same with what is done of others, which the bar shows."""
        self._progress.update(self._task, completed=completed, done=done, left=left, note=note)


class _Timing(ProgressColumn):
    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        # In a narrow terminal the stage's name matters more than how long it has taken so far.
        return Text(str(left) if left and error_console().width < NARROW else timing(task.elapsed or 0.0, left))


class _Cut(ProgressColumn):
    """A text column that is cut off if the terminal is too narrow for all columns."""

    def __init__(self, field: str, style: str = "", min_width: int | None = None) -> None:
        super().__init__(Column(min_width=min_width))
        self._field, self._style = field, style

    def render(self, task: Task) -> Text:
        return Text(task.fields[self._field], self._style, no_wrap=True, overflow="ellipsis")
