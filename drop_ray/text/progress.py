"""The progress of long work: a bar in a terminal, or a line from time to time in a log file."""

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from drop_ray.text.units import human_duration

if TYPE_CHECKING:
    from drop_ray.text.progress_bar import ProgressBar

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0


def ignore_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Progress:
    """Counts the finished units of a stage. Without a terminal it logs them, at most every ten seconds."""

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
        else:
            self._log(f"{self._total} {self._unit} to do")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, name: str) -> None:
        """Count one more finished unit, which is called `name`."""
        self._done += 1
        elapsed = time.monotonic() - self._started
        expected = elapsed / self._done * self._total if self._done < self._total else 0.0
        if self._bar is not None:
            self._bar.advance(name, expected)
        elif self._done == self._total or time.monotonic() - self._logged >= LOG_INTERVAL_S:
            self._log(f"{self._done}/{self._total} {self._unit}, {timing(elapsed, expected)}  ({name})")

    def heartbeat(self, num_working: int) -> None:
        """Say that nothing has finished for a while, and how many workers are busy."""
        state = f"{num_working} workers busy" if num_working else "waiting for workers to start"
        if self._bar is not None:
            self._bar.note(state)
        else:
            elapsed = human_duration(time.monotonic() - self._started)
            self._log(f"{self._done}/{self._total} {self._unit}, {elapsed} elapsed, {state}")

    def _log(self, text: str) -> None:
        self._logged = time.monotonic()
        logger.info("%s: %s", self._stage, text)


def timing(elapsed: float, expected: float) -> str:
    """Text of the elapsed and the remaining time. expected: seconds of the whole stage, 0 if unknown."""
    left = expected - elapsed
    return f"{human_duration(elapsed)} elapsed" + (f", about {human_duration(left)} left" if left > 0 else "")
