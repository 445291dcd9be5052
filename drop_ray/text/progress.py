"""The progress of long work: a bar in a terminal, or a line from time to time in a log file."""

import logging
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from drop_ray.text.file_only import LOG_FILE_ONLY
from drop_ray.text.time_left import TimeLeft, by_count, timing

if TYPE_CHECKING:
    from drop_ray.text.progress_bar import ProgressBar

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0
QUIET_INTERVAL_S = 30.0


def ignore_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Progress:
    """Counts the finished units of a stage. It logs them, at most every ten seconds, and every thirty
    while none is finished; in a terminal that goes to the run's log file, and a bar is shown."""

    def __init__(self, stage: str, total: int, unit: str):
        self._stage, self._total, self._unit = stage, total, unit
        self._done = 0
        self._started = self._logged = time.monotonic()
        self._bar: ProgressBar | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from drop_ray.text.progress_bar import ProgressBar  # rich: nothing that workers need

            self._bar = ProgressBar(self._stage, self._total, self._unit)
            self._bar.start()
        self._log(f"{self._total} {self._unit} to do")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, name: str) -> None:
        """Count one more finished unit, which is called `name`; all take about as long as each other."""
        self.finished(name, by_count(self._done + 1, self._total, self._elapsed_s))

    def finished(self, name: str, left: TimeLeft | None) -> None:
        """Count one more finished unit, which is called `name`. left: what is known of the others."""
        self._done += 1
        if self._bar is not None:
            self._bar.show(self._done, self._done, left, name)
        if self._done == self._total or self._is_due(LOG_INTERVAL_S):
            self._log(f"{self._done}/{self._total} {self._unit}, {timing(self._elapsed_s, left)}  ({name})")

    def under_way(self, fractions: Sequence[float], num_working: int, left: TimeLeft | None) -> None:
        """Nothing has finished for a while. fractions: how far the units under way are, of which it is known."""
        state = f"{num_working} workers busy" if num_working else "waiting for workers to start"
        if fractions:
            state += f", {sum(fractions) / len(fractions):.0%} through what they have"
        if self._bar is not None:
            self._bar.show(self._done, self._done + sum(fractions), left, state)
        if self._is_due(QUIET_INTERVAL_S):
            self._log(f"{self._done}/{self._total} {self._unit}, {timing(self._elapsed_s, left)}, {state}")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _is_due(self, interval_s: float) -> bool:
        return time.monotonic() - self._logged >= interval_s

    def _log(self, text: str) -> None:
        self._logged = time.monotonic()
        # Beside a bar the lines are for the run's log file.
        (logger if self._bar is None else LOG_FILE_ONLY).info("%s: %s", self._stage, text)
