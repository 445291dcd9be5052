"""Follows searches to their ends, all side by side, so that the models of all of them are measured at the same time."""

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from drop_ray.planning.strategies.search import Found, Modules, Round, Steps

Key = TypeVar("Key", bound=Hashable)


def follow(
    searches: Mapping[Key, Steps], measure: Callable[[Mapping[Key, Round]], Mapping[Key, Found]]
) -> dict[Key, Modules]:
    """What each search returns. measure: is given a round of every search that goes on, and finds their values."""
    ended: dict[Key, Modules] = {}
    asked: dict[Key, Round] = {}

    def step(key: Key, found: Found | None) -> None:
        try:
            # A generator that has not begun takes nothing but None.
            asked[key] = next(searches[key]) if found is None else searches[key].send(found)
        except StopIteration as end:
            ended[key] = tuple(end.value)

    for key in searches:
        step(key, None)
    while asked:
        found = measure(dict(asked))
        going, asked = list(asked), {}
        for key in going:
            step(key, found[key])
    return {key: ended[key] for key in searches}
