"""Processes that a test starts, and Ray's workers among them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

SUPPORT = Path(__file__).parent


def with_folders(*folders: Path | str) -> dict[str, str]:
    """The environment in which Python looks into these folders first, then where this process looks."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])}


def bare(home: Path) -> dict[str, str]:
    """The environment of a process that has nothing of this one's: no paths, no hub, and its caches in `home`."""
    return {"PATH": "", "HF_MODULES_CACHE": str(home / "modules"), "HOME": str(home), "HF_HUB_OFFLINE": "1"}


def ray_workers(doing: str = "") -> list[psutil.Process]:
    """Of the clusters that this process started. doing: what the name of the method that they run begins with."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            # Ray names a worker's process after its actor and method.
            if process.name().startswith(f"ray::Worker{doing}"):
                found.append(process)
    return found


@contextmanager
def workers_killed_when(condition: Callable[[], bool]) -> Iterator[None]:
    """SIGKILL all of the pool's workers, the busy ones among them, as soon as `condition()` holds."""

    def kill() -> None:
        while not condition():
            if ended.is_set():
                return
            time.sleep(0.002)
        for process in ray_workers():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    ended = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()
