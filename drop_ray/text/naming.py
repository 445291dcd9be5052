"""Finds a name that is given twice where names must differ."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def first_twice(names: Iterable[Name]) -> Name | None:
    """The first name that repeats an earlier one; None if all differ."""
    seen: set[Name] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
