"""Whether S3 gives no answer to this process: counted by connections, told to whoever watches."""

import threading
from collections.abc import Callable

Watcher = Callable[[bool], None]


class Outages:
    """The outages of a process's connections. `watch` may be called before any of them is made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = 0
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher` at once, and whenever a connection is lost or comes back, with whether one is lost."""
        with self._lock:
            self._watchers.append(watcher)
            watcher(self._current > 0)

    def began(self) -> None:
        self._changed(1)

    def ended(self) -> None:
        self._changed(-1)

    def _changed(self, by: int) -> None:
        with self._lock:
            self._current += by
            for watcher in self._watchers:
                watcher(self._current > 0)


OUTAGES = Outages()
"""Those of this process."""
