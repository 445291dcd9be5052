"""Where a worker's log is, and its last lines, which a person needs when a worker fails."""

import logging
import os
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from drop_ray.runtime.metrics import ProgressMetric
from drop_ray.text.progress import LOG_INTERVAL_S

logger = logging.getLogger(__name__)

LAST_LINES = 20
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class WorkerInfo:
    """Where a started worker runs."""

    node: str
    """Address of its node."""
    pid: int
    """Process id of the worker."""
    log: str
    """File that holds its standard error, on its node."""


def describe_this_worker() -> WorkerInfo:
    # Ray points a worker's standard error at a file, and the kernel knows which.
    log = Path("/proc/self/fd/2")
    return WorkerInfo(ray.util.get_node_ip_address(), os.getpid(), str(log.resolve() if log.exists() else "unknown"))


def last_words(info: WorkerInfo | None, error: Exception) -> str:
    """Node and log of a worker, and the log's end if it lies on this machine.

    For a worker that never started, it is Ray's own message.
    """
    if info is None:
        return str(error)
    where = f"worker {info.pid} on {info.node}, log {info.log}"
    path = Path(info.log)
    if not path.is_file():
        return f"{type(error).__name__}; {where} (on that node)"
    lines = path.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"{type(error).__name__}; {where}; its last lines:", *(f"  {line}" for line in lines)])


def application_error(error: Exception) -> str:
    """The error that the application raised in a worker, with the innermost lines of its traceback."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        frames = traceback.extract_tb(cause.__traceback__)[-3:]
        return "\n".join(
            [f"{type(cause).__name__}: {cause}", *(f"  {f.filename}:{f.lineno} in {f.name}" for f in frames)]
        )
    lines = [TERMINAL_COLOURS.sub("", line) for line in str(error).strip().splitlines()]
    return "\n".join(lines[-LAST_LINES:])


def log_progress(what: str = "layer passes") -> Callable[[int, int], None]:
    """A progress callback that writes to this worker's log and metric, since the driver only learns of whole units."""
    last, metric = time.monotonic(), ProgressMetric(_worker_name())

    def log(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_INTERVAL_S:
            last = time.monotonic()
            metric(done, total)
            logger.info("%d of %d %s", done, total, what)

    return log


def _worker_name() -> str:
    return f"{ray.util.get_node_ip_address()}:{os.getpid()}"
