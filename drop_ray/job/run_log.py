"""The log of one start of a run, in the run's folder in the store: `logs/TIME-HOST-PID.log`, written as it grows.

It has what the driver logs, progress and the last lines of lost workers too, where a terminal shows a bar. A local file
is appended to. On S3, whose objects cannot be, the last part is written anew from time to time, and a new part begins
when it is large. What fails here never ends a run: the log is for people, no result.
"""

import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from drop_ray import __version__
from drop_ray.config.secrets import MASK, secret_texts
from drop_ray.errors import DropRayError
from drop_ray.store import Store
from drop_ray.text.file_only import LOG_FILE_ONLY

LOGS = "logs"
# Seconds between two writes of a part on S3, and the bytes of a part. A log has no more than MAX_BYTES, months of a
# busy driver; what comes later is left out.
INTERVAL_S = 30.0
PART_BYTES = 1 << 20
MAX_BYTES = 100 << 20
LAYOUT = "%(asctime)s %(levelname).1s %(message)s"


class RunLog(logging.Handler):
    """A context manager around the work; nothing is written before `begin`. An error that passes is written, too."""

    def __init__(self, store: Store, run_folder: str, options: Mapping[str, Any]):
        """options: those of the connection to S3, whose credentials are masked, as are those of the environment."""
        super().__init__()
        self.setFormatter(logging.Formatter(LAYOUT, datefmt="%Y-%m-%d %H:%M:%S"))
        self._store, self._secrets = store, [*secret_texts(options), *secret_texts(os.environ)]
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{socket.gethostname()}-{os.getpid()}"
        self._base = f"{run_folder}/{LOGS}/{name}"
        self._waiting = bytearray()
        self._part, self._written, self._taken = 1, 0, 0
        self._has_begun = False
        self._ended = threading.Event()
        self._writer: threading.Thread | None = None

    @property
    def location(self) -> str:
        """Where the log is, or its newest part."""
        return self._store.location(self._path)

    def __enter__(self) -> "RunLog":
        for logger in _loggers():
            logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in _loggers():
            logger.removeHandler(self)
        if error is not None:
            known = isinstance(error, DropRayError | KeyboardInterrupt)
            text = f"{type(error).__name__}: {error}" if known else "this is a fault of drop_ray itself"
            self.handle(_record(logging.ERROR, text, None if known else (type(error), error, trace)))
        if self._has_begun:
            self._ended.set()
            if self._writer is not None:
                self._writer.join()
                self._upload()
            if error is not None:
                error.add_note(f"log: {self.location}")

    def begin(self) -> None:
        """The run is known to start, so that its folder may be written to."""
        if self._has_begun:
            return
        self._has_begun = True
        self.handle(_record(logging.INFO, f"drop_ray {__version__}, process {os.getpid()} here"))
        if self._local is None:
            self._writer = threading.Thread(target=self._write_on, name="run log", daemon=True)
            self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        # All of this is in the handler's lock, which the thread that writes to S3 holds for no request.
        line = text.encode(errors="replace") + b"\n"
        self._taken += len(line)
        if self._taken > MAX_BYTES:
            return
        self._waiting += line
        if self._has_begun and self._local is not None:
            self._append(self._local)

    @property
    def _path(self) -> str:
        return f"{self._base}.log" if self._part == 1 else f"{self._base}.part{self._part:03}.log"

    @property
    def _local(self) -> Path | None:
        return self._store.files.local_path(self._path)

    def _append(self, path: Path) -> None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(self._waiting)
            self._waiting.clear()

    def _write_on(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._upload()

    def _upload(self) -> None:
        """Write the newest part if it has grown."""
        assert self.lock is not None
        with self.lock:
            part = bytes(self._waiting)
        if len(part) == self._written:
            return
        with suppress(*self._store.files.failures):
            self._store.write_file(self._path, part)
            self._written = len(part)
        if self._written >= PART_BYTES:
            with self.lock:
                del self._waiting[: self._written]
            self._part, self._written = self._part + 1, 0


def logs_of(store: Store, run_folder: str) -> Iterator[str]:
    """Locations of the logs of a run's starts and their parts, the oldest first."""
    for name in store.list(f"{run_folder}/{LOGS}"):
        yield store.location(f"{run_folder}/{LOGS}/{name}")


def _loggers() -> Sequence[logging.Logger]:
    return logging.getLogger("drop_ray"), LOG_FILE_ONLY


def _record(level: int, text: str, fault: Any = None) -> logging.LogRecord:
    return logging.LogRecord("drop_ray", level, __file__, 0, text, None, fault)
