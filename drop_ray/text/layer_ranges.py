"""Numbers of layers for people, neighbours joined."""

from collections.abc import Iterable


def runs(layers: Iterable[int]) -> list[range]:
    """The layers in ascending order, neighbours joined."""
    joined: list[range] = []
    for layer in sorted(layers):
        if joined and layer == joined[-1].stop:
            joined[-1] = range(joined[-1].start, layer + 1)
        else:
            joined.append(range(layer, layer + 1))
    return joined


def layer_ranges(layers: Iterable[int]) -> str:
    """`5-7,9`."""
    return ",".join(str(run.start) if len(run) == 1 else f"{run.start}-{run.stop - 1}" for run in runs(layers))
