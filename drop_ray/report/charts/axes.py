"""Axes: from data to pixels, on a linear or logarithmic scale, with ticks at round numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from drop_ray.report.charts.svg import label, line

LOG_SCALE_RANGE = 10.0
"""Values that differ by more than this factor are drawn on a logarithmic scale where the chart allows one."""


@dataclass(frozen=True)
class Scale:
    """Maps low..high in data to start..stop in pixels."""

    low: float
    """In data."""
    high: float
    """In data."""
    start: float
    """Pixel of `low`."""
    stop: float
    """Pixel of `high`."""
    log: bool = False
    """Whether distances are of logarithms."""

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside (also infinite ones) stick to the nearer end. NaN has no pixel."""
        clipped = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(clipped / self.low) / math.log(self.high / self.low)
        else:
            share = (clipped - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within low..high: about six, or 1-2-5 steps (whole decades when there are many)."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def fit(
    values: Iterable[float], start: float, stop: float, *, from_zero: bool = False, allow_log: bool = False
) -> Scale:
    """A scale around the finite values, with some room; logarithmic if allowed, all are positive and they span > 10x.

    Raises ValueError without a finite value.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise ValueError("an axis needs a finite value")
    low, high = min(finite), max(finite)
    if allow_log and spans_decades(finite):
        return Scale(low / 1.3, high * 1.3, start, stop, log=True)
    if from_zero:
        low = min(low, 0.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if from_zero and low == 0 else low - room, high + room, start, stop)


def spans_decades(values: Iterable[float]) -> bool:
    """Whether the values are all positive and the largest is more than 10x the smallest. Raises ValueError for none."""
    known = list(values)
    return min(known) > 0 and max(known) / min(known) > LOG_SCALE_RANGE


def levels(values: Iterable[float], count: int) -> Scale:
    """A scale whose integer parts are `count` levels, 0 for the lowest value; logarithmic where they span > 10x."""
    known = list(values)
    low, high = min(known), max(known)
    # The last level is closed: without the margin the highest value alone would be a level of its own.
    return Scale(low, high if high > low else low + 1.0, 0, count - 1e-9, log=spans_decades(known))


def tick_label(value: float) -> str:
    """The shortest spelling of a round number."""
    return (
        f"{value:g}"
        if 1e-4 <= abs(value) < 1e5 or value == 0
        else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    )


def y_axis(parent: Element, scale: Scale, left: float, right: float) -> None:
    """Horizontal grid lines with their values to the left."""
    for tick in scale.ticks():
        y = scale(tick)
        line(parent, (left, y), (right, y), "grid")
        label(parent, (left - 8, y + 4), tick_label(tick), "tick", "end")


def x_axis(parent: Element, scale: Scale, ticks: Iterable[float], y: float, title: str = "") -> None:
    """The base line at pixel y, with values below it."""
    line(parent, (scale.start, y), (scale.stop, y), "axis")
    for tick in ticks:
        line(parent, (scale(tick), y), (scale(tick), y + 4), "axis")
        label(parent, (scale(tick), y + 17), tick_label(tick), "tick", "middle")
    if title:
        label(parent, ((scale.start + scale.stop) / 2, y + 36), title, "axis-title", "middle")


def whole_ticks(last: int, limit: int) -> list[int]:
    """Multiples of 1, 2, 5, 10, ... from 0 to `last`, at most about `limit` of them."""
    step = next(step for power in range(9) for base in (1, 2, 5) if last <= limit * (step := base * 10**power))
    return list(range(0, last + 1, step))


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(base * power for base in (1, 2, 5, 10) if base * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # A product with a step such as 0.1 carries rounding noise that the label would show.
    return [round(index * step, 12) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1, math.ceil((last - first) / 8))
    bases = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [float(f"{base}e{decade}") for decade in decades for base in bases]
    return [tick for tick in ticks if low <= tick <= high]
