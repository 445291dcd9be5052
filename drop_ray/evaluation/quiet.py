"""Runs lm-eval without its prints, progress bars and process pool.

It prints while it bootstraps, and draws bars without a switch to turn them off. For standard errors it forks a pool of
all cores, which is unsafe in a process that holds a CUDA context or runs inside a Ray actor.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from tqdm.std import tqdm

from drop_ray.replacing import replaced

_NO_POOL = "DISABLE_MULTIPROC"  # lm-eval's own variable: bootstrap in this process, with the same draws
_draw_bar = tqdm.__init__


@contextmanager
def quiet() -> Iterator[None]:
    """While it is open, this process prints to standard error, draws no bars, and bootstraps without a pool."""
    before = os.environ.get(_NO_POOL)
    os.environ[_NO_POOL] = "1"
    try:
        with redirect_stdout(sys.stderr), replaced(tqdm, "__init__", _draw_no_bar):
            yield
    finally:
        if before is None:
            del os.environ[_NO_POOL]
        else:
            os.environ[_NO_POOL] = before


def _draw_no_bar(bar: Any, *args: Any, **kwargs: Any) -> None:
    _draw_bar(bar, *args, **{**kwargs, "disable": True})
