"""How long a stage still takes, from the shares that are finished and from how far those under way say they are.

Shares of a kind take about as long as each other. While there are shares of a kind of which nothing is known, there is
no upper bound. Before there is any evidence there is no estimate.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.job.units import Share
from drop_ray.text.time_left import TimeLeft

# Less than this part of a share says little: it begins with loading a model.
MIN_FRACTION = 0.05
# By what a projection from a part of a share may be wrong, either way.
UNSURE = 1.25
# The same of a kind of which one share is finished: it may be the first of its worker, which also loaded the model.
UNSURE_OF_ONE = 2.0


@dataclass(frozen=True)
class UnderWay:
    """A share that a worker has."""

    name: str
    """Name of the share."""
    elapsed_s: float
    """Seconds since the worker was given it."""
    fraction: float | None
    """How much of it is done, from 0 to 1, as the worker last said; None if it says nothing."""


class StageTime:
    """What is known of how long the shares of one stage take."""

    def __init__(self, shares: Sequence[Share]):
        self._kinds = {share.name: share.kind for share in shares}
        self._left = Counter(self._kinds.values())
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def finished(self, name: str, seconds: float) -> None:
        """A share was finished, that many seconds after a worker was given it."""
        self._seconds[self._kinds[name]].append(seconds)
        self.found(name)

    def found(self, name: str) -> None:
        """Somebody else has finished a share."""
        self._left[self._kinds[name]] -= 1

    def left(self, under_way: Sequence[UnderWay], num_workers: int) -> TimeLeft | None:
        """What is left with that many workers; None where nothing is known yet, and when nothing is left."""
        # A share that two workers have is as far as the one that is farthest.
        best = {each.name: each for each in sorted(under_way, key=lambda each: each.fraction or 0.0)}
        known = self._known(list(best.values()))
        waiting = self._left - Counter(self._kinds[name] for name in best)
        if not known or not num_workers or not (best or waiting):
            return None
        busy = [_rest(each, known.get(self._kinds[each.name], UNKNOWN)) for each in best.values()]
        ahead = [(known.get(kind, UNKNOWN), count) for kind, count in waiting.items()]
        work_low = sum(rest.low for rest in busy) + sum(kind.mean.low * count for kind, count in ahead)
        work_high = sum(rest.high for rest in busy) + sum(kind.mean.high * count for kind, count in ahead)
        longest = max((kind.one.high for kind, _ in ahead), default=0.0) if num_workers > 1 else 0.0
        return TimeLeft(
            max([work_low / num_workers, *(rest.low for rest in busy)]),
            # At the end most workers may have nothing to do while one has a share that it has just begun.
            max([work_high / num_workers + longest * (1 - 1 / num_workers), *(rest.high for rest in busy)]),
        )

    def _known(self, under_way: Sequence[UnderWay]) -> dict[str, "_Kind"]:
        """How long shares of a kind take, of those of which something is known."""
        found = {kind: _of_finished(seconds) for kind, seconds in self._seconds.items()}
        for each in under_way:
            if (kind := self._kinds[each.name]) not in found and (each.fraction or 0.0) >= MIN_FRACTION:
                assert each.fraction is not None
                found[kind] = _alike(_about(each.elapsed_s / each.fraction))
        return found


@dataclass(frozen=True)
class _Kind:
    """How long shares of a kind take."""

    mean: TimeLeft
    """What many take on average."""
    one: TimeLeft
    """What a single one takes."""


def _of_finished(seconds: Sequence[float]) -> _Kind:
    mean = statistics.fmean(seconds)
    if len(seconds) == 1:
        return _alike(TimeLeft(mean / UNSURE_OF_ONE, mean))
    spread = 2 * statistics.stdev(seconds) / math.sqrt(len(seconds))
    one = TimeLeft(min(seconds), max(seconds))
    return _Kind(TimeLeft(max(mean - spread, one.low), min(mean + spread, one.high)), one)


def _alike(one: TimeLeft) -> _Kind:
    return _Kind(one, one)


UNKNOWN = _alike(TimeLeft(0.0, math.inf))


def _about(seconds: float) -> TimeLeft:
    return TimeLeft(seconds / UNSURE, seconds * UNSURE)


def _rest(each: UnderWay, kind: _Kind) -> TimeLeft:
    """Of a share under way: by what its worker says, or else by how long others took."""
    if each.fraction is not None and each.fraction >= MIN_FRACTION:
        return _about(each.elapsed_s / each.fraction * (1 - each.fraction))
    # One that takes longer than all before it may take as long again.
    high = kind.one.high - each.elapsed_s
    return TimeLeft(max(0.0, kind.one.low - each.elapsed_s), high if high > 0 else each.elapsed_s)
