"""Names in charts: right of the frame at the ends of lines, or beside marks, so that none covers another."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from drop_ray.report.charts.axes import Scale
from drop_ray.report.charts.svg import Anchor, Place, Shape, group, label, marker, polyline

LABEL_HEIGHT, LABEL_CHARACTER, LABEL_MARGIN = 17.0, 7.0, 46.0
"""Pixels of a line, of a character (on average, with room to spare), and beside a label."""
BESIDE_HEIGHT, BESIDE_CHARACTER, BOLD_CHARACTER = 14.0, 7.4, 8.2
MARK = 5.0
"""Half of the room that a mark takes."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def end_labels(root: Element, ends: Sequence[tuple[Place, str, Shape, str]], x: Scale, y: Scale) -> None:
    """Names right of the frame, moved apart where they would overlap, each led to from where its line ends.

    ends: where that is, and the class, mark and name of the line.
    """
    ordered = sorted(ends, key=lambda end: end[0][1])
    heights = spread([end[0][1] for end in ordered], LABEL_HEIGHT, y.stop, y.start)
    for (at, css, shape, name), height in zip(ordered, heights, strict=True):
        marks = group(root, css)
        polyline(marks, [(at[0] + 7, at[1]), (x.stop + 4, at[1]), (x.stop + 14, height)], "leader")
        marker(marks, (x.stop + 21, height), shape, "mark", 3.5)
        label(marks, (x.stop + 31, height + 4), name, "series-label")


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


def names_beside(
    root: Element, marks: Sequence[tuple[Place, str, str, bool]], frame: Box, lines: Sequence[tuple[Place, Place]] = ()
) -> None:
    """Each name where it covers no mark or name and stays within the frame, best where it covers no line either. Bold
    ones may cover marks where there is no such place, and never a name; without a place a name is not written. marks:
    places, with class and name, if any, and whether it is bold; lines: horizontal and vertical ones."""
    marked = [(x - MARK, y - MARK, x + MARK, y + MARK) for (x, y), *_ in marks]
    written: list[Box] = []
    crossed = [(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in lines]
    for (x, y), css, name, bold in sorted(marks, key=lambda mark: not mark[3]):
        length = (BOLD_CHARACTER if bold else BESIDE_CHARACTER) * len(name)
        sides: tuple[tuple[Anchor, float, float], ...] = (("start", x + 8, x + 8), ("end", x - 8, x - 8 - length))
        places = [
            ((at, y + dy), anchor, (left, y + dy - BESIDE_HEIGHT + 3, left + length, y + dy + 3))
            for dy in (-9, 17, -24, 32, -39, 47)
            for anchor, at, left in sides
        ]
        apart = [place for place in places if _within(place[2], frame) and not _any_overlap(place[2], written)]
        free = [place for place in apart if not _any_overlap(place[2], marked)]
        clear = (place for place in free if not _any_overlap(place[2], crossed))
        chosen = next(clear, next(iter(free), next(iter(apart), None) if bold else None))
        if name and chosen is not None:
            written.append(chosen[2])
            text_css = "series-label front-label" if bold else "series-label"
            label(group(root, css), chosen[0], name, text_css, chosen[1])


def _within(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _any_overlap(box: Box, others: Sequence[Box]) -> bool:
    return any(_overlap(box, other) for other in others)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
