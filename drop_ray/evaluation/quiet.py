"""Runs lm-eval without its prints, progress bars and process pool.

It prints while it bootstraps, and draws bars without a switch to turn them off. For standard errors it forks a pool of
all cores, which is unsafe in a process that holds a CUDA context or runs inside a Ray actor.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

from tqdm.std import tqdm

_NO_POOL = "DISABLE_MULTIPROC"  # lm-eval's own variable: bootstrap in this process, with the same draws
_draw_bar = tqdm.__init__


@contextmanager
def quiet() -> Iterator[None]:
    """While it is open, this process prints to standard error, draws no bars, and bootstraps without a pool."""
    before = os.environ.get(_NO_POOL)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.callback(_restore, before)
        os.environ[_NO_POOL] = "1"
        tqdm.__init__ = _draw_no_bar
        yield


def _restore(before: str | None) -> None:
    tqdm.__init__ = _draw_bar
    if before is None:
        del os.environ[_NO_POOL]
    else:
        os.environ[_NO_POOL] = before


def _draw_no_bar(bar: Any, *args: Any, **kwargs: Any) -> None:
    _draw_bar(bar, *args, **{**kwargs, "disable": True})
