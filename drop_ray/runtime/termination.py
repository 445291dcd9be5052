"""SIGTERM ends a command as Ctrl-C does: `ray job stop`, Kubernetes and batch systems send it, and kill soon after.

Units commit themselves, so that nothing has to be saved: workers are stopped, and the command ends.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Exit codes that a shell reports for a process that the signal ended.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class Termination:
    """Whether SIGTERM came, as `received`."""

    def __init__(self) -> None:
        self.received = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Raise KeyboardInterrupt, because a wait for Ray passes on none of our own exceptions."""
        self.received = True
        # Whoever sends it again wants the process gone, not tidy.
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt


@contextmanager
def terminable() -> Iterator[Termination]:
    """While it is open, SIGTERM raises KeyboardInterrupt. In another thread than the main one nothing changes."""
    termination = Termination()
    with sigterm_handler_kept():
        if _in_main_thread():
            signal.signal(signal.SIGTERM, termination.handle)
        yield termination


@contextmanager
def sigterm_handler_kept() -> Iterator[None]:
    """Keeps the handler over `ray.init`, which sets one of its own that ends the process without a word."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
