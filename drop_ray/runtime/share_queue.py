"""The shares of a stage that are not done, and which of them an idle worker gets. It decides; the pool sends."""

from collections import deque
from collections.abc import Sequence
from itertools import chain, product

from drop_ray.job.units import Share
from drop_ray.runtime.pool_worker import PoolWorker


class ShareQueue:
    """The shares of one stage. `title` is the stage's: workers keep models between shares of one title."""

    def __init__(self, title: str, shares: Sequence[Share]):
        self._title = title
        self._open = {share.name: share for share in shares}
        self._waiting = deque(shares)
        self._copies: list[Share] = []

    @property
    def num_wanted(self) -> int:
        """The number of workers that have, or could be given, something to do."""
        return len(self._open) + len(self._copies)

    @property
    def asked_again(self) -> set[str]:
        """Names of the shares that wait for a further worker."""
        return {share.name for share in self._copies}

    def is_open(self, share: Share) -> bool:
        return share.name in self._open

    def key(self, share: Share) -> object:
        """What a worker holds after the share."""
        return self._title, share.model_key

    def take(self, idle: Sequence[PoolWorker], busy: Sequence[PoolWorker]) -> tuple[PoolWorker, Share] | None:
        """An idle worker and its share, which leaves the queue: one whose model the worker has, else one whose model
        nobody has, else the next. Shares that take too long come first, on another node if a worker of one is idle.
        """
        if not idle:
            return None
        if self._copies:
            share = self._copies.pop(0)
            nodes = {worker.node for worker in busy if worker.share is share}
            return next((worker for worker in idle if worker.node not in nodes), idle[0]), share
        if not self._waiting:
            return None
        held = {worker.model_key for worker in (*idle, *busy)}
        own = (pair for pair in product(idle, self._waiting) if pair[0].model_key == self.key(pair[1]))
        free = (pair for pair in product(idle, self._waiting) if self.key(pair[1]) not in held)
        worker, share = next(chain(own, free, product(idle, self._waiting)))
        self._waiting.remove(share)
        return worker, share

    def ask_again(self, share: Share) -> None:
        """Another worker is wanted for a share that one has."""
        self._copies.append(share)

    def put_back(self, share: Share) -> None:
        """Nobody has the share any more: it comes next."""
        self._forget_copies(share)
        self._waiting.appendleft(share)

    def finish(self, share: Share) -> bool:
        """Take note of a result. False if the share was finished before."""
        self._forget_copies(share)
        return self._open.pop(share.name, None) is not None

    def _forget_copies(self, share: Share) -> None:
        self._copies = [other for other in self._copies if other is not share]
