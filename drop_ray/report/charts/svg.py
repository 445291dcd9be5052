"""Inline SVG from Python: an element tree, so that every name is escaped and every drawing is well-formed.

Colours, fonts and line widths live in style.css under the classes given here; drawings carry geometry only.
"""

from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "diamond", "up", "down", "cross"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "up", "down", "cross")
Place = tuple[float, float]
"""Pixels from the left and from the top."""
OUTLINES: dict[Shape, Sequence[Place]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "up": [(0, -1.2), (1.15, 0.8), (-1.15, 0.8)],
    "down": [(0, 1.2), (1.15, -0.8), (-1.15, -0.8)],
    "cross": [
        *((-1.2, -0.4), (-0.4, -0.4), (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4)),
        *((1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4)),
    ],
}
"""Corners of the marks, in radii from the centre; the circle has none."""


def figure(name: str, title: str, description: str, width: float, height: float) -> Element:
    """An empty drawing of `width` x `height` pixels, announced to screen readers by its title and description.

    `name` must be unique within the page and a valid id.
    """
    root = Element("svg", {"id": name, "role": "img", "viewBox": f"0 0 {_text(width)} {_text(height)}"})
    root.attrib |= {"width": _text(width), "height": _text(height)}
    root.set("aria-labelledby", f"{name}-title {name}-description")
    SubElement(root, "title", {"id": f"{name}-title"}).text = title
    SubElement(root, "desc", {"id": f"{name}-description"}).text = description
    return root


def markup(root: Element) -> Markup:
    """The drawing as text that a page must not escape again."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def group(parent: Element, css: str, tooltip: str | None = None) -> Element:
    """A group; `tooltip` is shown while the pointer is over any of its marks."""
    element = SubElement(parent, "g", {"class": css})
    if tooltip is not None:
        SubElement(element, "title").text = tooltip
    return element


def line(parent: Element, start: Place, end: Place, css: str) -> None:
    """A straight line."""
    _add(parent, "line", css, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def polyline(parent: Element, places: Sequence[Place], css: str) -> None:
    """A line through places."""
    SubElement(parent, "polyline", {"points": _joined(places), "class": css})


def rectangle(parent: Element, corner: Place, size: tuple[float, float], css: str) -> None:
    """A rectangle from its upper left corner."""
    _add(parent, "rect", css, x=corner[0], y=corner[1], width=size[0], height=size[1])


def label(parent: Element, at: Place, text: str, css: str, anchor: Anchor = "start") -> None:
    """Text whose baseline starts, centres or ends at a place."""
    element = _add(parent, "text", css, x=at[0], y=at[1])
    element.set("text-anchor", anchor)
    element.text = text


def marker(parent: Element, at: Place, shape: Shape, css: str, radius: float) -> None:
    """A point mark; shapes tell series apart without colour."""
    if shape == "circle":
        _add(parent, "circle", css, cx=at[0], cy=at[1], r=radius)
    else:
        corners = [(at[0] + x * radius, at[1] + y * radius) for x, y in OUTLINES[shape]]
        SubElement(parent, "polygon", {"points": _joined(corners), "class": css})


def legend_mark(name: str, text: str, css: str, shape: Shape, connected: bool) -> Markup:
    """The line and mark of a series, as the drawing of a legend entry."""
    root = figure(name, text, f"Line and mark of {text}", 34, 14)
    marks = group(root, css)
    if connected:
        polyline(marks, [(1, 7), (33, 7)], "line")
    marker(marks, (17, 7), shape, "mark", 4)
    return markup(root)


def _add(parent: Element, tag: str, css: str, **places: float) -> Element:
    return SubElement(parent, tag, {**{name: _text(place) for name, place in places.items()}, "class": css})


def _joined(places: Sequence[Place]) -> str:
    return " ".join(f"{_text(x)},{_text(y)}" for x, y in places)


def _text(coordinate: float) -> str:
    """Two decimals are a fiftieth of a hair line."""
    return f"{coordinate:.2f}".rstrip("0").rstrip(".")
