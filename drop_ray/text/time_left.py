"""How long work still takes, as it is told to people: rounded as coarsely as it is known, and a range where it is."""

import math
from typing import NamedTuple

from drop_ray.text.units import human_duration

# A range whose ends are nearer to each other than this is told as one number.
ABOUT = 1.3


class TimeLeft(NamedTuple):
    """Seconds until work is done, from what is known of it."""

    low: float
    """If all that is unknown goes well."""
    high: float
    """If it does not; infinite while there is work of which nothing is known."""

    def __str__(self) -> str:
        """`about 4 min left`, `2 to 5 h left`, `at least 10 min left`."""
        if math.isinf(self.high):
            return f"at least {rounded(self.low)} left"
        low, high = rounded(self.low), rounded(self.high)
        if low == high or self.high < ABOUT * self.low:
            return f"about {rounded((self.low + self.high) / 2)} left"
        amount, unit = low.rsplit(" ", 1)
        return f"{amount if high.endswith(f' {unit}') else low} to {high} left"


def by_count(done: int, total: int, elapsed_s: float) -> TimeLeft | None:
    """Of pieces that take about as long as each other; None before the first is done, and when all are."""
    if not 0 < done < total:
        return None
    left = elapsed_s / done * (total - done)
    return TimeLeft(left, left)


def rounded(seconds: float) -> str:
    """`40 s`, `7 min`, `1.5 h`, `3 d`: to about a tenth."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5)) if seconds < 20 else 10 * round(seconds / 10)} s"
    minutes = seconds / 60
    if minutes < 55:
        return f"{round(minutes) if minutes < 9.5 else 5 * round(minutes / 5)} min"
    hours = minutes / 60
    if hours < 47.5:
        return f"{round(2 * hours) / 2:g} h" if hours < 9.5 else f"{round(hours)} h"
    return f"{round(hours / 24)} d"


def timing(elapsed: float, left: TimeLeft | None) -> str:
    """Text of the elapsed and the remaining time."""
    return f"{human_duration(elapsed)} elapsed" + (f", {left}" if left else "")
