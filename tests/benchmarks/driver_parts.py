"""Runs one command of drop-ray in this process, and says which parts of the driver took how long.

    python tests/benchmarks/driver_parts.py OUTPUT.json run CONFIG --dry-run
    python tests/benchmarks/driver_parts.py OUTPUT.json status CONFIG

In: a command line. Out: JSON with wall and CPU seconds of each part (of the main thread, every moment in the innermost
part only), what was counted, and the CPU seconds of the workers and of Ray's own processes. Nothing of the product is
changed for it: functions are found by their names, wherever they are, and wrapped.
"""

import builtins
import functools
import hashlib
import importlib
import inspect
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

# The module that a command runs, imported first so that there is something to wrap. The first of two is where it was
# before the packages: what makes comparisons with that code possible, and can go once nobody makes them. It comes first
# because `drop_ray.job` was a module that imports everything.
MODULES = {
    "run": ("drop_ray.pipeline",),
    "dry run": ("drop_ray.forecast", "drop_ray.stages.forecast"),
    "status": ("drop_ray.status", "drop_ray.job.status"),
}
# Functions and, by class, methods; those without a name here belong to the part that calls them.
FUNCTIONS = {
    "open the job": {"open_job"},
    "texts": {"load_texts", "load_calibration"},
    "identities": {"canonical_json", "fingerprint", "plain"},
    "hash texts": {"file_sha256"},
    "read versions": {"public_versions", "full_versions", "installed_versions"},
    "tables": {"read_table", "write_table", "read_outputs"},
    "store": {"find_all"},
    "gather the report": {"publish", "collect"},
    "write the report": {"render_html", "render_markdown", "write_results_parquet", "write_tables"},
}
CLASSES = {"Store": "store", "Step": "identities", "Ledger": "ledger", "Pool": "pool", "StageWatch": "watch"}
# Of a store's files, what asks nothing of the storage.
NO_REQUESTS = {"absolute", "remedy", "local_path"}
IMPORTS, REST = "importing libraries", "rest"


class Parts:
    """A stack of parts: time goes to the innermost one. Calls in other threads are counted, not timed."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.calls = Counter[str](), Counter[str](), Counter[str]()
        self._thread, self._stack = threading.get_ident(), [REST]
        self._last = time.perf_counter(), time.thread_time()

    def close(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self.wall[self._stack[-1]] += now[0] - self._last[0]
        self.cpu[self._stack[-1]] += now[1] - self._last[1]
        self._last = now

    def timed(self, function: Callable[..., Any], part: str | Callable[[], str]) -> Callable[..., Any]:
        """part: its name, or what says it at each call."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.calls[function.__name__] += 1
            if threading.get_ident() != self._thread:
                return function(*args, **kwargs)
            self.close()
            self._stack.append(part if isinstance(part, str) else part())
            try:
                return function(*args, **kwargs)
            finally:
                self.close()
                self._stack.pop()

        return wrapped


def wrap_product(parts: Parts) -> None:
    """Every name of the product that a wrapped function is bound to, in every module that imported it."""
    part_of = {name: part for part, names in FUNCTIONS.items() for name in names}
    wrapped: dict[int, Any] = {}
    for name, value, module in list(_bindings()):
        if inspect.isclass(value) and value.__name__ in CLASSES and id(value) not in wrapped:
            wrapped[id(value)] = value
            _wrap_methods(parts, value, CLASSES[value.__name__])
        elif inspect.isfunction(value) and not inspect.isgeneratorfunction(value):
            is_ours, title = value.__module__.startswith("drop_ray"), value.__name__
            part = part_of.get(title) if is_ours else None
            if is_ours and title.endswith(("_step", "_steps")):
                part = "identities"
            elif (value.__module__, title) == ("importlib.metadata", "version"):
                part = "read versions"
            if part is not None:
                wrapped.setdefault(id(value), parts.timed(value, part))
                setattr(module, name, wrapped[id(value)])


def _bindings() -> Iterator[tuple[str, Any, Any]]:
    for module in [module for name, module in sys.modules.items() if name.startswith("drop_ray")]:
        yield from ((name, value, module) for name, value in vars(module).items())


def _wrap_methods(parts: Parts, owner: type, part: str) -> None:
    for name, method in list(vars(owner).items()):
        is_plain = inspect.isfunction(method) and not inspect.isgeneratorfunction(method)
        if is_plain and (not name.startswith("__") or name == "__post_init__"):
            setattr(owner, name, parts.timed(method, part))


def count_requests(requests: Counter[str]) -> None:
    """What is asked of the storage, by any thread; a request that is made of others is one."""
    from drop_ray.store.local_files import LocalFiles

    inside = threading.local()

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if getattr(inside, "request", False):
                return method(*args, **kwargs)
            requests[method.__name__] += 1
            inside.request = True
            try:
                return method(*args, **kwargs)
            finally:
                inside.request = False

        return wrapped

    for name, method in list(vars(LocalFiles).items()):
        if inspect.isfunction(method) and not name.startswith("_") and name not in NO_REQUESTS:
            setattr(LocalFiles, name, counted(method))


def wrap_ray(parts: Parts, processes: dict[str, float]) -> None:
    """processes: gets the CPU seconds of workers and of Ray's own processes, read before the first is stopped."""
    import ray
    import ray.actor
    from ray.util import metrics

    waiting = ["Ray: workers start"]

    def submitted(*args: Any, **kwargs: Any) -> Any:
        # The first actor method is `start`; waiting after the first unit was sent is waiting for units.
        if args[0]._method_name == "run":
            waiting[0] = "Ray: wait for units"
        return send(*args, **kwargs)

    def before_stop(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if not processes:
                processes.update(_children())
            return function(*args, **kwargs)

        return functools.wraps(function)(wrapped)

    send = parts.timed(ray.actor.ActorMethod._remote, "Ray: messages")
    ray.actor.ActorMethod._remote = submitted
    ray.actor.ActorClass._remote = parts.timed(ray.actor.ActorClass._remote, "Ray: messages")
    ray.wait = parts.timed(ray.wait, lambda: waiting[0])
    ray.get = parts.timed(ray.get, "Ray: messages")
    ray.init = parts.timed(ray.init, "Ray: start and stop")
    ray.kill = parts.timed(before_stop(ray.kill), "Ray: start and stop")
    ray.shutdown = parts.timed(before_stop(ray.shutdown), "Ray: start and stop")
    for owner, name in ((metrics.Counter, "inc"), (metrics.Gauge, "set"), (metrics.Histogram, "observe")):
        setattr(owner, name, parts.timed(getattr(owner, name), "Ray: metrics"))


def _children() -> dict[str, float]:
    seconds = {"workers": 0.0, "Ray's processes": 0.0}
    for process in psutil.Process().children(recursive=True):
        try:
            is_worker = "".join(process.cmdline()).startswith("ray::") and "IDLE" not in "".join(process.cmdline())
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds["workers" if is_worker else "Ray's processes"] += times.user + times.system
    return seconds


def _import_first(modules: tuple[str, ...]) -> None:
    """The first of the modules that is there."""
    for module in modules[:-1]:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
            return
    importlib.import_module(modules[-1])


def count_hashed(files: Counter[str]) -> None:
    digest = hashlib.file_digest

    def counted(file: Any, *args: Any, **kwargs: Any) -> Any:
        files[Path(file.name).name] += 1
        return digest(file, *args, **kwargs)

    hashlib.file_digest = counted


def main() -> int:
    output, *arguments = sys.argv[1:]
    parts, requests, hashed, processes = Parts(), Counter[str](), Counter[str](), dict[str, float]()
    builtins.__import__ = parts.timed(builtins.__import__, IMPORTS)
    from drop_ray.cli import main as command_line

    command = "dry run" if "--dry-run" in arguments else arguments[0]
    parts.timed(_import_first, IMPORTS)(MODULES[command])
    wrap_product(parts)
    count_requests(requests)
    count_hashed(hashed)
    if "ray" in sys.modules:
        wrap_ray(parts, processes)
    code = command_line(arguments)
    parts.close()
    usage, own = resource.getrusage(resource.RUSAGE_SELF), sum(parts.cpu.values())
    values = {
        "wall": parts.wall,
        "cpu": {**parts.cpu, "other threads": usage.ru_utime + usage.ru_stime - own},
        "calls": parts.calls,
        "requests": requests,
        "hashed": hashed,
        "processes": processes,
        # Not getrusage: there a process starts with the peak of the one that forked it.
        "peak_mib": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
    }
    Path(output).write_text(json.dumps(values, indent=1))
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
