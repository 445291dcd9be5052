"""Inline SVG from Python: an element tree, so that every name is escaped and every drawing is well-formed.

Colours, fonts and line widths live in style.css under the classes given here; drawings carry geometry only.
"""

from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "diamond", "up", "down", "cross"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "up", "down", "cross")


def figure(name: str, title: str, description: str, width: float, height: float) -> Element:
    """An empty drawing of `width` x `height` pixels, announced to screen readers by its title and description.

    `name` must be unique within the page and a valid id.
    """
    root = Element(
        "svg",
        {
            "id": name,
            "role": "img",
            "viewBox": f"0 0 {_text(width)} {_text(height)}",
            "width": _text(width),
            "height": _text(height),
            "aria-labelledby": f"{name}-title {name}-description",
        },
    )
    SubElement(root, "title", {"id": f"{name}-title"}).text = title
    SubElement(root, "desc", {"id": f"{name}-description"}).text = description
    return root


def markup(root: Element) -> Markup:
    """The drawing as text that a template must not escape again."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def group(parent: Element, css: str = "", tooltip: str | None = None) -> Element:
    """A group; `tooltip` is shown while the pointer is over any of its marks."""
    element = SubElement(parent, "g", {"class": css} if css else {})
    if tooltip is not None:
        SubElement(element, "title").text = tooltip
    return element


def line(parent: Element, start: tuple[float, float], end: tuple[float, float], css: str) -> None:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    SubElement(parent, "line", {"x1": _text(x1), "y1": _text(y1), "x2": _text(x2), "y2": _text(y2), "class": css})


def polyline(parent: Element, points: list[tuple[float, float]], css: str) -> None:
    """A line through points."""
    SubElement(parent, "polyline", {"points": " ".join(f"{_text(x)},{_text(y)}" for x, y in points), "class": css})


def rectangle(parent: Element, corner: tuple[float, float], size: tuple[float, float], css: str) -> None:
    """A rectangle from its upper left corner."""
    (x, y), (width, height) = corner, size
    SubElement(
        parent,
        "rect",
        {"x": _text(x), "y": _text(y), "width": _text(width), "height": _text(height), "class": css},
    )


def label(parent: Element, at: tuple[float, float], text: str, css: str = "label", anchor: Anchor = "start") -> None:
    """Text whose baseline starts, centres or ends at a point."""
    x, y = at
    element = SubElement(parent, "text", {"x": _text(x), "y": _text(y), "class": css, "text-anchor": anchor})
    element.text = text


def marker(parent: Element, at: tuple[float, float], shape: Shape, css: str, radius: float = 4) -> None:
    """A point mark; shapes tell series apart without colour."""
    x, y = at
    if shape == "circle":
        SubElement(parent, "circle", {"cx": _text(x), "cy": _text(y), "r": _text(radius), "class": css})
        return
    r = radius
    outlines: dict[Shape, list[tuple[float, float]]] = {
        "square": [(-0.9 * r, -0.9 * r), (0.9 * r, -0.9 * r), (0.9 * r, 0.9 * r), (-0.9 * r, 0.9 * r)],
        "diamond": [(0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)],
        "up": [(0, -1.2 * r), (1.15 * r, 0.8 * r), (-1.15 * r, 0.8 * r)],
        "down": [(0, 1.2 * r), (1.15 * r, -0.8 * r), (-1.15 * r, -0.8 * r)],
        "cross": [
            (-1.2 * r, -0.4 * r),
            (-0.4 * r, -0.4 * r),
            (-0.4 * r, -1.2 * r),
            (0.4 * r, -1.2 * r),
            (0.4 * r, -0.4 * r),
            (1.2 * r, -0.4 * r),
            (1.2 * r, 0.4 * r),
            (0.4 * r, 0.4 * r),
            (0.4 * r, 1.2 * r),
            (-0.4 * r, 1.2 * r),
            (-0.4 * r, 0.4 * r),
            (-1.2 * r, 0.4 * r),
        ],
    }
    points = " ".join(f"{_text(x + dx)},{_text(y + dy)}" for dx, dy in outlines[shape])
    SubElement(parent, "polygon", {"points": points, "class": css})


def _text(coordinate: float) -> str:
    """Two decimals are a fiftieth of a hair line."""
    return f"{coordinate:.2f}".rstrip("0").rstrip(".")
