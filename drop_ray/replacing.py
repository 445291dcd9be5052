"""An attribute of a library is another one for a while: the libraries' own settings do not reach everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


@contextmanager
def replaced(owner: Any, name: str, value: Any, *, adds: bool = False) -> Iterator[None]:
    """Within, `owner.name` is `value`, for the whole process.

    owner: a module or a class with the attribute itself, not by inheritance. adds: it must not have it before, as a
    module that uses a built-in function. AttributeError if the owner is not as expected: a library has changed.
    """
    before = vars(owner).get(name, _ABSENT)
    if (before is _ABSENT) is not adds:
        raise AttributeError(f"{owner.__name__} has {'already' if adds else 'no'} {name}")
    setattr(owner, name, value)
    try:
        yield
    finally:
        if adds:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
