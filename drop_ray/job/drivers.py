"""The drivers of a run, each with a file in `runs/{name}/drivers/` while it lives: they share the work by it.

A driver that ends takes its file away. The file of one that was killed stays, and is taken away by the next start that
finds it too old, or written by a process of its own machine that is no longer there.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import psutil

from drop_ray.errors import UserError
from drop_ray.job.heartbeat import Driver, Heartbeat
from drop_ray.job.run_files import read_run_file
from drop_ray.store import Store

logger = logging.getLogger(__name__)

DRIVERS = "drivers"
# Often enough for a person who watches, and rare enough for a store on S3.
INTERVAL_S = 10.0


class Presence:
    """This driver among those of its run; a context manager."""

    def __init__(self, store: Store, run_folder: str):
        self._store, self._run_folder = store, run_folder
        self.driver = Driver(socket.gethostname(), os.getpid())
        self._path = f"{run_folder}/{DRIVERS}/{self.driver.host}-{self.driver.pid}.json"
        self._written = -INTERVAL_S
        self.others: tuple[Heartbeat, ...] = ()
        self.came_later = False

    def __enter__(self) -> "Presence":
        """Say who else works on the run, and be seen from now on."""
        self.write(Heartbeat(self.driver, time.time(), stage=""))
        self.came_later = bool(self.others)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A store that is out of reach has ended the run already; the file grows old there.
        with suppress(*self._store.files.failures):
            self._store.files.remove(self._path)

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= INTERVAL_S

    def write(self, heartbeat: Heartbeat) -> None:
        """Write this driver's sign of life, and look for those of others."""
        self._written = time.monotonic()
        self._store.write_file(self._path, heartbeat.to_json())
        known = {other.driver for other in self.others}
        self.others = tuple(self._find_others())
        for other in self.others:
            if other.driver not in known:
                logger.warning(
                    "another driver works on this run: %s, last sign of life %s ago; the two share its units",
                    *(other.driver, other.age(time.time())),
                )

    def _find_others(self) -> Iterator[Heartbeat]:
        """Of drivers that live. The files of others are removed."""
        for path, found in signs_of_life(self._store, self._run_folder):
            if path == self._path:
                continue
            if isinstance(found, Heartbeat) and not found.is_stale(time.time()) and not self._has_ended(found.driver):
                yield found
                continue
            if isinstance(found, UserError):
                logger.warning("%s; it is removed", found)
            self._store.files.remove(path)

    def _has_ended(self, driver: Driver) -> bool:
        return driver.host == self.driver.host and not psutil.pid_exists(driver.pid)


def signs_of_life(store: Store, run_folder: str) -> Iterator[tuple[str, Heartbeat | UserError]]:
    """(path, heartbeat) of every driver of a run, and of those that were killed; or why the file cannot be read."""
    for name in store.list(f"{run_folder}/{DRIVERS}"):
        path = f"{run_folder}/{DRIVERS}/{name}"
        try:
            yield path, Heartbeat.from_json(read_run_file(store, path), store.location(path))
        except FileNotFoundError:
            continue  # its driver has just ended
        except UserError as error:
            yield path, error
