"""Which variants are compared together: groups of equal work that share prefixes, and fit a memory for states.

A forward pass is a walk over sub-layers, attention 0, MLP 0, attention 1 and so on. A variant costs what comes after
its longest common prefix with the base or with another variant of its group, and one output layer. Sorted by their
drops at each sub-layer, that other one is its neighbour, as with words in a dictionary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from drop_ray.models.families import DropLists

Path = tuple[bool, ...]
"""Whether each sub-layer is dropped, in the order in which a forward pass meets them."""


@dataclass(frozen=True)
class PassCosts:
    """What the parts of a forward pass cost, in one unit, such as operations per token."""

    attention: tuple[float, ...]
    """Of the attention of each layer."""
    mlp: tuple[float, ...]
    """Of the MLP of each layer."""
    output: float
    """Of the output layer."""

    def path(self, drops: DropLists) -> Path:
        attn, mlp = set(drops.attn), set(drops.mlp)
        return tuple(part for layer in range(len(self.mlp)) for part in (layer in attn, layer in mlp))

    def work(self, variants: Sequence[DropLists], base: DropLists) -> float:
        """The cost of a base and of variants that are compared with it together."""
        paths = sorted(self.path(drops) for drops in variants)
        start = self.path(base)
        before = [start, *paths]
        shared = [
            max(_shared(path, start), _shared(path, other)) for path, other in zip(paths, before[:-1], strict=True)
        ]
        return self.behind(start, 0) + sum(map(self.behind, paths, shared))

    def behind(self, path: Path, shared: int) -> float:
        """The cost of a model from one sub-layer on."""
        parts = [part for both in zip(self.attention, self.mlp, strict=True) for part in both]
        return sum(cost for cost, gone in list(zip(parts, path, strict=True))[shared:] if not gone) + self.output


def deal(variants: Sequence[DropLists], base: DropLists, costs: PassCosts, workers: int, most: int) -> list[list[int]]:
    """Groups of places in `variants`, those of most work first; within a group the places ascend.

    workers: the number of groups is a multiple of it, where there are as many variants; most: variants of a group at
    most. The largest work of a group is as small as groups of neighbours allow.
    """
    paths = [costs.path(drops) for drops in variants]
    order = sorted(range(len(paths)), key=lambda place: paths[place], reverse=True)
    start = costs.path(base)
    shared_with_base = [_shared(paths[place], start) for place in order]
    alone = [costs.behind(paths[place], shared) for place, shared in zip(order, shared_with_base, strict=True)]
    beside = [
        costs.behind(paths[place], max(shared, _shared(paths[place], paths[before])))
        for (before, place), shared in zip(pairwise(order), shared_with_base[1:], strict=True)
    ]
    wanted = min(len(order), workers * -(-len(order) // (most * workers)))
    groups = _cut(alone, [0.0, *beside], costs.behind(start, 0), wanted, most)
    return [sorted(order[place] for place in group) for group in groups]


def _cut(alone: Sequence[float], beside: Sequence[float], base: float, wanted: int, most: int) -> list[range]:
    """At most `wanted` runs of neighbours whose largest work is least, those of most work first.

    alone: work of each as the first of a run, beside: as a later one, base: of the base's own pass.
    """
    low, high = 0.0, sum(alone) + base
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if len(_filled(alone, beside, base, middle, most)) <= wanted else (middle, high)
    runs = _filled(alone, beside, base, high, most)
    return [run for run, _ in sorted(runs, key=lambda one: (-one[1], one[0].start))]


def _filled(
    alone: Sequence[float], beside: Sequence[float], base: float, limit: float, most: int
) -> list[tuple[range, float]]:
    """Runs filled one after the other up to a limit of work, each with its work. One variant always has room."""
    runs: list[tuple[range, float]] = []
    for place, work in enumerate(alone):
        if runs and len(runs[-1][0]) < most and runs[-1][1] + beside[place] <= limit:
            run, before = runs[-1]
            runs[-1] = range(run.start, place + 1), before + beside[place]
        else:
            runs.append((range(place, place + 1), base + work))
    return runs


def _shared(one: Path, other: Path) -> int:
    """Number of sub-layers up to the first one at which two differ."""
    return next((place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), len(one))
