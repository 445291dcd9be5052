"""Progress of long work: one line that is rewritten in a terminal, a line now and then in a log file."""

import logging
import shutil
import sys
import time

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0
# Terminal control: back to the start of the line, and clear it.
REWRITE_LINE = "\r\x1b[K"


def ignore_progress(done: int, total: int) -> None:
    """For work that nobody watches."""


class Progress:
    """Counts finished units of a stage. In a terminal the line is rewritten in place; otherwise it is logged, at most
    every ten seconds and once at the end."""

    def __init__(self, stage: str, total: int, unit: str):
        self._stage, self._total, self._unit = stage, total, unit
        self._done = 0
        self._started = self._logged = time.monotonic()
        self._in_terminal = sys.stderr.isatty()
        self._show(f"{stage}: {total} {unit} to do")

    def advance(self, name: str) -> None:
        """One more unit is finished: `name`."""
        self._done += 1
        elapsed = time.monotonic() - self._started
        left = elapsed / self._done * (self._total - self._done)
        timing = f"{_clock(elapsed)} elapsed" + (f", about {_clock(left)} left" if left else "")
        text = f"{self._stage}: {self._done}/{self._total} {self._unit}, {timing}  ({name})"
        finished = self._done == self._total
        if self._in_terminal or finished or time.monotonic() - self._logged >= LOG_INTERVAL_S:
            self._show(text)
        if self._in_terminal and finished:
            sys.stderr.write("\n")

    def heartbeat(self, num_working: int) -> None:
        """Nothing finished for a while, and that many workers are busy."""
        elapsed = _clock(time.monotonic() - self._started)
        state = f"{num_working} workers busy" if num_working else "waiting for workers to start"
        self._show(f"{self._stage}: {self._done}/{self._total} {self._unit}, {elapsed} elapsed, {state}")

    def _show(self, text: str) -> None:
        self._logged = time.monotonic()
        if self._in_terminal:
            # A line longer than the terminal would wrap, and could not be rewritten.
            sys.stderr.write(f"{REWRITE_LINE}{text[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
        else:
            logger.info("%s", text)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
