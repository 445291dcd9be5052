"""Names that must differ: which of them is given twice."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def first_twice(names: Iterable[Name]) -> Name | None:
    """The first name that has come before; None if all differ."""
    seen: set[Name] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
