"""Numbers with a unit, as people write limits: `24 GB`, `0.5x`, `12`. Read strictly, and shown in the unit given."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from drop_ray.text.path_names import shown

BYTES = {
    **{"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40},
}
TIMES, COUNT = "x", ""
WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", re.ASCII)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit."""

    number: str
    """The digits as they were written, such as `0.5`."""
    unit: str
    """A unit of bytes, `x` for a multiple of something else, or nothing for a count."""

    def __str__(self) -> str:
        return f"{self.number} {self.unit}" if self.unit in BYTES else f"{self.number}{self.unit}"

    @property
    def part(self) -> str:
        """The quantity as a part of a file's name."""
        return f"{self.number}{self.unit}"

    @property
    def is_relative(self) -> bool:
        return self.unit == TIMES

    def value(self, base: float = 1.0) -> float:
        """In bytes, or as a count. A multiple is of `base`."""
        return float(self.number) * (base if self.is_relative else BYTES.get(self.unit, 1))

    def at_least(self, value: float, base: float = 1.0) -> str:
        """The smallest quantity in this unit, of four digits, that is not below `value`; a count is a whole number."""
        number = value / (base if self.is_relative else BYTES.get(self.unit, 1))
        return str(Quantity(str(math.ceil(number)) if self.unit == COUNT else rounded_up(number), self.unit))


def read_quantity(text: str, units: Collection[str]) -> Quantity:
    """The quantity that a text writes in one of the units. ValueError, without the field, for any other text.

    A count is a whole number.
    """
    found = WRITTEN.fullmatch(text)
    if found is None or found[2] not in units or (found[2] == COUNT and "." in found[1]):
        named = ", ".join(unit or "none" for unit in units)
        raise ValueError(f"{shown(text)} is not a number with its unit, of {named}")
    return Quantity(found[1], found[2])


def rounded_up(number: float) -> str:
    """Four digits, never below the number: 3.08712 -> `3.088`."""
    if number <= 0:
        return "0"
    scale = 10.0 ** (3 - math.floor(math.log10(number)))
    return f"{math.ceil(number * scale) / scale:.15g}"


def rounded_down(number: float) -> str:
    """Four digits, never above the number: 3.08712 -> `3.087`."""
    if number <= 0:
        return "0"
    scale = 10.0 ** (3 - math.floor(math.log10(number)))
    return f"{math.floor(number * scale) / scale:.15g}"
