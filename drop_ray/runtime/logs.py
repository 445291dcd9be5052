"""Where a worker's log is, and its last lines, which a person needs when a worker fails."""

import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LAST_LINES = 20
# Seconds to wait for the last lines of a log on another node, which may be as lost as its worker.
ANSWER_S = 10
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
    lines = last_lines(info.log)
    if lines is None:
        lines = _last_lines_there(info)
    if lines is None:
        return f"{type(error).__name__}; {where} (on that node)"
    return "\n".join([f"{type(error).__name__}; {where}; its last lines:", *(f"  {line}" for line in lines)])


def last_lines(log: str) -> list[str] | None:
    """The end of a log file; None if it is not on this machine."""
    path = Path(log)
    return path.read_text(errors="replace").splitlines()[-LAST_LINES:] if path.is_file() else None


def _last_lines_there(info: WorkerInfo) -> list[str] | None:
    """The same of another node, which is asked; None if it is gone, or gives no answer."""
    if not ray.is_initialized():
        return None
    on_its_node = NodeAffinitySchedulingStrategy(info.node_id, soft=False)
    reader = ray.remote(num_cpus=0, max_retries=0)(last_lines).options(scheduling_strategy=on_its_node)
    try:
        found: list[str] | None = ray.get(reader.remote(info.log), timeout=ANSWER_S)
    except (RayError, TimeoutError):
        return None
    return found


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
