"""Where a worker's log is, and its last lines, which a person needs when a worker fails."""

import logging
import os
import re
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from drop_ray.runtime.metrics import ProgressMetric
from drop_ray.text.progress import LOG_INTERVAL_S

logger = logging.getLogger(__name__)

LAST_LINES = 20
# The limit of the container that a process is in, by the second and the first version of control groups.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
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
    node_id: str
    """Ray's name of the node."""
    memory_bytes: int
    """Memory of the node, or of the container that the worker is in, in bytes."""

    @property
    def where(self) -> str:
        return f"{self.pid} on {self.node}"


def describe_this_worker() -> WorkerInfo:
    # Ray points a worker's standard error at a file, and the kernel knows which.
    log = Path("/proc/self/fd/2")
    return WorkerInfo(
        node=ray.util.get_node_ip_address(),
        pid=os.getpid(),
        log=str(log.resolve() if log.exists() else "unknown"),
        node_id=ray.get_runtime_context().get_node_id(),
        memory_bytes=memory_bytes(),
    )


def memory_bytes(limits: Sequence[Path] = MEMORY_LIMITS) -> int:
    """Memory of this machine in bytes, or less if the container has a limit. `limits` are files that say such."""
    texts = [limit.read_text().strip() for limit in limits if limit.is_file()]
    total: int = psutil.virtual_memory().total
    return min([total, *(int(text) for text in texts if text.isdigit())])


def last_words(info: WorkerInfo | None, error: Exception) -> str:
    """Node and log of a worker, and the log's end if it lies on this machine.

    For a worker that never started, it is Ray's own message.
    """
    if info is None:
        return str(error)
    where = f"worker {info.where}, log {info.log}"
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
