"""The cliff of a strategy: the largest number of drops that still passes, found by bisection."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cliff:
    """How much a strategy can drop before a gate stops it."""

    strategy: str
    """Name of the strategy."""
    num_counts: int
    """The largest number that it can drop."""
    largest: int
    """The largest number that passes; 0 if none does."""
    fails: int | None
    """The next larger number, which fails; None if the largest of all passes."""
    reason: str
    """Why that one fails; empty if none does."""
    asked: tuple[int, ...]
    """The numbers whose gates were asked, in order."""
    known: tuple[int, ...]
    """Those of them that are plans of the run anyway."""
    plan: str | None
    """Name of the plan that drops `largest`; None for 0."""
    drop_attn: tuple[int, ...] = ()
    """Layers that lose their attention in that plan."""
    drop_mlp: tuple[int, ...] = ()
    """Layers that lose their MLP in that plan."""


class Bisection:
    """Asks for one count at a time, and knows at the end the largest that passes.

    It assumes that dropping more never makes a failing plan pass, and that 0, the base itself, passes. Where that is
    not so, what it finds still passes and the next larger count still fails, both as answered; another, larger count
    may pass as well. With n counts it asks at most log2(n) + 1 times.
    """

    def __init__(self, num_counts: int):
        if num_counts < 0:
            raise ValueError(f"there cannot be {num_counts} counts")
        self.num_counts = num_counts
        self.largest = 0
        """The largest count that is known to pass."""
        self._fails = num_counts + 1

    @property
    def asks(self) -> int | None:
        """The count that is to be tried next; None at the end."""
        return (self.largest + self._fails) // 2 if self.remaining else None

    @property
    def remaining(self) -> int:
        """How often it asks at most, from now on."""
        return (self._fails - self.largest - 1).bit_length()

    @property
    def fails(self) -> int | None:
        """The smallest count that is known to fail; None if none is."""
        return None if self._fails > self.num_counts else self._fails

    def answer(self, passes: bool) -> None:
        """Say whether the count that it asks for passes."""
        asked = self.asks
        if asked is None:
            raise ValueError("nothing was asked")
        if passes:
            self.largest = asked
        else:
            self._fails = asked


def largest_passing(num_counts: int, passes: Callable[[int], bool]) -> int:
    """The largest count from 1 to `num_counts` that passes, as `Bisection` finds it; 0 if none does."""
    search = Bisection(num_counts)
    while (count := search.asks) is not None:
        search.answer(passes(count))
    return search.largest
