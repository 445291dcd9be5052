"""The progress of a stage, as a terminal and as a log file get it."""

import io
import logging
import re
import sys
from contextlib import redirect_stderr

import pytest

from drop_ray.text import progress
from drop_ray.text.console import error_console, log_handler
from drop_ray.text.progress import Progress, timing
from drop_ray.text.time_left import TimeLeft

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHOW_CURSOR = "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 60 columns, to redirect standard error to: pytest sets its own anew when the fixtures are made."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    error_console.cache_clear()
    yield Terminal()
    error_console.cache_clear()


def test_in_a_log_the_first_line_and_the_last_are_certain(caplog):
    with caplog.at_level(logging.INFO), Progress("score base", 3, "sample ranges") as shown:
        for name in ("samples 0 to 7", "samples 8 to 15", "samples 16 to 23"):
            shown.advance(name)
    assert caplog.messages == [
        "score base: 3 sample ranges to do",
        "score base: 3/3 sample ranges, 0.0 s elapsed  (samples 16 to 23)",
    ]


def test_in_a_log_lines_are_ten_seconds_apart(caplog, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO), Progress("evaluate", 100, "units") as shown:
        for unit in range(8):
            now += 4.0
            shown.advance(f"unit {unit}")
        for seconds in (29.0, 2.0, 2.0):
            now += seconds
            shown.under_way([0.25, 0.75], 3, TimeLeft(3000.0, 7300.0))
        now += 30
        shown.under_way([], 0, None)
    assert caplog.messages == [
        "evaluate: 100 units to do",
        "evaluate: 3/100 units, 12.0 s elapsed, about 6 min left  (unit 2)",
        "evaluate: 6/100 units, 24.0 s elapsed, about 6 min left  (unit 5)",
        "evaluate: 8/100 units, 1 min 1 s elapsed, 50 min to 2 h left, 3 workers busy, 50% through what they have",
        "evaluate: 8/100 units, 1 min 35 s elapsed, waiting for workers to start",
    ]


def test_nothing_is_said_of_what_is_left_while_nothing_is_known():
    assert timing(30.0, None) == "30.0 s elapsed"


def test_in_a_terminal_a_message_stands_whole_above_the_line_which_stays(terminal):
    with redirect_stderr(terminal):
        logger = logging.Logger("drop_ray.test")
        logger.addHandler(log_handler())
        with Progress("score", 2, "ranges") as shown:
            shown.advance("samples 0 to 7")
            logger.warning("a [bold] message")
            shown.under_way([0.5], 1, TimeLeft(60, 240))
            shown._bar._progress.refresh()  # which it does twice a second
            shown.advance("a name that is much too long to be shown in a line of sixty columns")
    lines = [CONTROL.sub("", line).rstrip() for line in re.split(r"\r?\n|\r", terminal.getvalue())]
    assert max(map(len, lines)) <= 60
    assert any(re.fullmatch(r"score [━╸╺]+ 1/2 ranges 1 to 4 min left.*", line) for line in lines)
    assert any(re.fullmatch(r"\[?\d\d:\d\d:\d\d\]? WARNING  a \[bold\] message", line) for line in lines)
    last = [line for line in lines if line][-1]
    assert re.fullmatch(r"score ━+ 2/2 ranges \d\.\d s elapsed", last)


def test_an_error_gives_the_terminal_back(terminal):
    with redirect_stderr(terminal):
        with pytest.raises(RuntimeError, match="lost"), Progress("score", 2, "ranges"):
            raise RuntimeError("lost")
        assert sys.stderr is terminal
    assert terminal.getvalue().rstrip().endswith(SHOW_CURSOR)
