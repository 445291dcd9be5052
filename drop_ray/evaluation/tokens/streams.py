"""Batches in flight at the same time, for a model that is spread over several devices."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_order(batches: Sequence[Callable[[], Result]], streams: int) -> Iterator[Result]:
    """The results of the batches in their order, with `streams` of them in flight.

    One batch uses one device of a spread model at a time. With as many threads as devices, each is at another part of
    the model, and what several of them ask of one device is done in turn. What is in a batch does not depend on it.
    """
    if streams == 1 or len(batches) < 2:
        yield from (batch() for batch in batches)
        return
    with ThreadPoolExecutor(streams) as threads:
        yield from threads.map(lambda batch: batch(), batches)
