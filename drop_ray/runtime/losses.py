"""Workers that were lost or that hung: how often each share may lose one, and what the last loss says to a person."""

import logging
import os
import signal
from contextlib import suppress

import psutil
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from drop_ray.errors import WorkerFailedError
from drop_ray.runtime.logs import WorkerInfo, last_words
from drop_ray.text.file_only import LOG_FILE_ONLY
from drop_ray.text.units import human_bytes, human_duration

logger = logging.getLogger(__name__)

# What Ray raises for the share of a worker that is gone.
LOST_WORKER = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)
# In the text of Ray's errors for an actor whose process it killed to save its node.
LOW_MEMORY = "low on memory"
# How Ray names the processes of actors; the class's name follows.
PROCESS_NAME = "ray::"


class HungWorkerError(Exception):
    """A worker gave no answer for so long that it was killed."""

    def __init__(self, seconds: float):
        super().__init__(f"no answer for {human_duration(seconds)}")


class Losses:
    """Counts the workers that each share has lost. WorkerFailedError for one that has lost `max_attempts`."""

    def __init__(self, max_attempts: int):
        self._max_attempts = max_attempts
        self._lost: dict[str, int] = {}

    def count(self, share: str, info: WorkerInfo, error: Exception) -> None:
        """A worker that had the share is gone, for the reason `error`."""
        lost = self._lost[share] = self._lost.get(share, 0) + 1
        reason = str(error) if isinstance(error, HungWorkerError) else type(error).__name__
        logger.warning(
            "%s: worker lost, attempt %d of %d: worker %s: %s", share, lost, self._max_attempts, info.where, reason
        )
        words = last_words(info, error)
        LOG_FILE_ONLY.info("%s: %s", share, words)
        if lost >= self._max_attempts:
            raise WorkerFailedError(
                f"{share}: its worker was lost {lost} times ({_remedy(info, error)}); the last: {words}"
            ) from error


def _remedy(info: WorkerInfo, error: Exception) -> str:
    """What most likely made a worker go, and what to do about it."""
    if isinstance(error, HungWorkerError):
        return f"{error}; if the unit takes so long, raise execution.unit_timeout, or else look at the node {info.node}"
    cause = (
        "its node's memory was used up"
        if isinstance(error, OutOfMemoryError) or LOW_MEMORY in str(error)
        # The kernel and Kubernetes kill with the same signal as anybody else, and say so in their own logs only.
        else "most often the kernel kills it, because its node's memory is used up"
    )
    return (
        f"{cause}: {info.node} has {human_bytes(info.memory_bytes)}; ask for fewer workers a node (raise "
        "execution.cpus_per_worker), a smaller scoring.micro_batch or evaluation.batch_size, or execution.layers: "
        "streamed, or give it a larger node"
    )


def kill_hung(actor: object, info: WorkerInfo) -> None:
    """Kill a worker that may be unable to end itself, as Ray asks of it: by the process's number, on its own node."""
    ray.kill(actor)
    on_its_node = NodeAffinitySchedulingStrategy(info.node_id, soft=False)
    killer = ray.remote(num_cpus=0, max_retries=0)(_kill_process)
    killer.options(scheduling_strategy=on_its_node).remote(info.pid)


def _kill_process(pid: int) -> None:
    """Kill a Ray worker of this node, unless it has ended already and its number is another process's."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if " ".join(psutil.Process(pid).cmdline()).startswith(PROCESS_NAME):
            os.kill(pid, signal.SIGKILL)
