"""An actor of a pool, and what it is doing."""

import time
from dataclasses import dataclass
from typing import Any

from drop_ray.job.heartbeat import BusyWorker
from drop_ray.job.units import Share
from drop_ray.runtime.logs import WorkerInfo


@dataclass(eq=False)
class PoolWorker:
    """An actor, and what it is doing."""

    actor: Any
    """Handle of the Ray actor."""
    info: WorkerInfo | None = None
    """Where it runs; None until it has started."""
    share: Share | None = None
    """What it is doing; None while it starts or waits."""
    model_key: object = None
    """Stage and model of its last share: what it still holds."""
    since: float = 0.0
    """When it was given its share, in seconds since 1970."""
    lost_starts: int = 0
    """Number of workers in its place that were lost in a row while starting."""

    @property
    def node(self) -> str:
        """Address of its node; empty until it has started."""
        return self.info.node if self.info else ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was given its share."""
        return time.time() - self.since

    def give(self, share: Share, model_key: object) -> None:
        """Note that it has the share from now on."""
        self.share, self.model_key, self.since = share, model_key, time.time()

    def busy(self, is_late: bool) -> BusyWorker:
        """What a heartbeat says of it while it has a share."""
        assert self.share is not None
        assert self.info is not None  # shares go to workers that have started
        return BusyWorker(self.share.name, self.info.node, self.info.pid, self.since, is_late)
