"""Runs lm-eval without its prints, progress bars and process pool.

It prints while it bootstraps, and draws bars without a switch to turn them off. For standard errors it forks a pool of
all cores, which is unsafe in a process that holds a CUDA context or runs inside a Ray actor.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

from tqdm.std import tqdm

from drop_ray.replacing import replaced
from drop_ray.text.progress import ignore_progress

_NO_POOL = "DISABLE_MULTIPROC"  # lm-eval's own variable: bootstrap in this process, with the same draws
# Begins the title of the bars that count requests: "Running loglikelihood requests", "Running generate_until requests".
_REQUESTS = "Running "
_draw_bar = tqdm.__init__


@contextmanager
def quiet(progress: Callable[[int, int], None] = ignore_progress) -> Iterator[None]:
    """While it is open, this process prints to standard error, draws no bars, and bootstraps without a pool.

    `progress` is told what lm-eval's bars of requests would show.
    """
    before = os.environ.get(_NO_POOL)
    os.environ[_NO_POOL] = "1"
    try:
        with redirect_stdout(sys.stderr), replaced(tqdm, "__init__", _bar_that_tells(progress)):
            yield
    finally:
        if before is None:
            del os.environ[_NO_POOL]
        else:
            os.environ[_NO_POOL] = before


def _bar_that_tells(progress: Callable[[int, int], None]) -> Callable[..., None]:
    def draw_no_bar(bar: Any, *args: Any, **kwargs: Any) -> None:
        _draw_bar(bar, *args, **{**kwargs, "disable": True})
        if str(kwargs.get("desc")).startswith(_REQUESTS) and bar.total:
            bar.update = partial(_count, bar, progress)

    return draw_no_bar


def _count(bar: Any, progress: Callable[[int, int], None], more: float | None = 1) -> None:
    bar.n += more
    progress(bar.n, bar.total)
