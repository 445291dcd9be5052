"""Names in charts: right of the frame at the ends of lines, or beside marks, so that none covers another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from xml.etree.ElementTree import Element

from drop_ray.report.charts.axes import Scale
from drop_ray.report.charts.svg import Anchor, Place, Shape, group, label, marker, polyline

LABEL_HEIGHT, LABEL_CHARACTER, LABEL_MARGIN = 17.0, 7.0, 46.0
"""Pixels of a line, of a character (on average, with room to spare), and beside a label."""
BESIDE_HEIGHT, BESIDE_CHARACTER = 14.0, 7.4
MARK = 5.0
"""Half of the room that a mark takes."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Labelled(Protocol):
    """What has a label: a curve."""

    @property
    def css(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class Beside:
    """A name beside a mark."""

    at: Place
    """The mark."""
    name: str
    """The text."""
    css: str
    """Class of the mark's curve."""
    bold: bool
    """Written in bold, and even where it covers something."""


def end_labels(root: Element, ends: Sequence[tuple[Place, Labelled]], x: Scale, y: Scale) -> None:
    """Names right of the frame, moved apart where they would overlap, each led to from where its line ends."""
    ordered = sorted(ends, key=lambda end: end[0][1])
    heights = spread([at[1] for at, _ in ordered], LABEL_HEIGHT, y.stop, y.start)
    for (at, curve), height in zip(ordered, heights, strict=True):
        marks = group(root, curve.css)
        polyline(marks, [(at[0] + 7, at[1]), (x.stop + 4, at[1]), (x.stop + 14, height)], "leader")
        marker(marks, (x.stop + 21, height), curve.shape, "mark", 3.5)
        label(marks, (x.stop + 31, height + 4), curve.label, "series-label")


def spread(positions: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Sorted positions moved as little as a simple pass can so that neighbours are `distance` apart within low..high.

    Where low..high is too short for all of them, the first ones leave it at the low end.
    """
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + distance if moved else low))
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - distance
    return moved


def names_beside(root: Element, marks: Sequence[Place], names: Sequence[Beside], frame: Box) -> None:
    """Each where it covers no mark or name and stays within the frame; where it cannot, only bold ones are written all
    the same, above right."""
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in marks]
    for one in sorted(names, key=lambda one: not one.bold):
        length = BESIDE_CHARACTER * len(one.name)
        places: list[tuple[Place, Anchor, Box]] = []
        for dy in (-9, 17, -24, 32):
            x, y = one.at[0], one.at[1] + dy
            for at, anchor, left in (((x + 8, y), "start", x + 8), ((x - 8, y), "end", x - 8 - length)):
                places.append((at, anchor, (left, y - BESIDE_HEIGHT + 3, left + length, y + 3)))  # type: ignore[arg-type]
        free = (place for place in places if _within(place[2], frame) and not any(_overlap(place[2], b) for b in taken))
        chosen = next(free, places[0] if one.bold else None)
        if chosen is not None:
            at, anchor, box = chosen
            taken.append(box)
            css = "series-label front-label" if one.bold else "series-label"
            label(group(root, one.css), at, one.name, css, anchor)


def _within(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
