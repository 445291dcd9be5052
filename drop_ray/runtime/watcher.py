"""What a pool tells of itself while it runs: to progress lines, metrics and `drop-ray status`."""

from collections.abc import Sequence

from drop_ray.job.heartbeat import BusyWorker
from drop_ray.job.units import Share


class Watcher:
    """Is told what happens in a pool while it runs. This one does nothing."""

    def working(self, busy: Sequence[BusyWorker], num_ready: int) -> None:
        """Something changed, or a few seconds have passed.

        `num_ready` counts the workers that have started, also busy ones.
        """

    def finished(self, share: Share, seconds: float) -> None:
        """A share was finished, `seconds` after it was given to the worker that did it."""

    def found(self, share: Share) -> None:
        """Somebody else has finished a share."""

    def requeued(self) -> None:
        """A worker was lost, and its share goes to another one."""

    def killed(self, worker: BusyWorker, seconds: float) -> None:
        """A worker was killed that had given no answer for so long."""

    def failed(self) -> None:
        """A share failed, and so does the run."""


NOBODY = Watcher()
