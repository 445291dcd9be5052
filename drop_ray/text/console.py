"""The consoles that output is made for.

In a terminal, output fits the width and is coloured, unless NO_COLOR or the like tells rich otherwise. A pipe or a file
gets plain text, one row per line however long it is, because scripts read it.
"""

import logging
import os
import sys
from collections.abc import Iterable
from functools import cache
from typing import TextIO

from rich.console import Console
from rich.logging import RichHandler

# More columns than any line has, so that nothing is wrapped.
UNLIMITED = 1 << 20
PLAIN = Console(width=UNLIMITED, color_system=None)


def console_of(stream: TextIO) -> Console:
    return Console(file=stream, width=None if stream.isatty() else UNLIMITED, highlight=False)


@cache
def error_console() -> Console:
    """The console of standard error in a terminal. It shows the progress line, and log lines above it."""
    return Console(stderr=True, highlight=False)


def has_colour(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def show(lines: Iterable[str]) -> None:
    """Print lines on standard output as they come, until the reader closes the pipe, as `head` does."""
    try:
        for line in lines:
            print(line, flush=True)
    except BrokenPipeError:
        # Python flushes once more when it exits, and would print an error there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def log_handler() -> logging.Handler:
    """Logs to standard error; in a terminal through the console of the progress line, which would break otherwise."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=error_console(), show_path=False, omit_repeated_times=False)
        layout = "%(message)s"
    else:
        handler, layout = logging.StreamHandler(), "%(asctime)s %(levelname).1s %(message)s"
    handler.setFormatter(logging.Formatter(layout, datefmt="%H:%M:%S"))
    return handler
