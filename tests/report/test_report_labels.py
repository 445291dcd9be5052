"""Texts of all drawings, reckoned with wide letters: none leaves its drawing, and none covers another."""

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from large_results import large_results
from quantized_results import quantized_results

from drop_ray.report.charts.labels import names_beside
from drop_ray.report.html import render_html
from drop_ray.report.results import Results

WIDE, WIDE_BOLD = 0.585, 0.655
"""Mean width of a letter of DejaVu Sans, the widest common font, in sizes."""
SIZES = {"chart-title": 13.0, "series-label": 12.5, "tick": 11.5, "note": 11.5, "axis-title": 11.5}
"""Of style.css; other texts have 12."""
FRAME = (40.0, 40.0, 700.0, 400.0)
Box = tuple[float, float, float, float]
PAGES: dict[str, Callable[[], Results]] = {
    "13 variants": lambda: large_results(13, ((),)),
    "40 variants": large_results,
    "quantized and served": quantized_results,
}


def boxes(drawing: Element) -> Iterator[tuple[str, Box]]:
    for node in drawing.iter("text"):
        css, text = node.get("class", "").split(), node.text or ""
        size = next((SIZES[name] for name in css if name in SIZES), 12.0)
        width = size * len(text) * (WIDE_BOLD if {"chart-title", "front-label"} & {*css} else WIDE)
        x, y = float(node.get("x", "nan")), float(node.get("y", "nan"))
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[node.get("text-anchor", "start")]
        yield text, (left, y - 0.9 * size, left + width, y + 0.2 * size)


def faults(drawing: Element) -> Iterator[str]:
    found, name = list(boxes(drawing)), drawing.get("id")
    width, height = float(drawing.get("width", "nan")), float(drawing.get("height", "nan"))
    for text, (left, top, right, bottom) in found:
        if not (left >= -1 and top >= -1 and right <= width + 1 and bottom <= height + 1):
            yield f"{name}: {text!r} is clipped"
    for (text, one), (other, second) in combinations(found, 2):
        if overlap(one, second):
            yield f"{name}: {text!r} covers {other!r}"


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] - 1 and other[0] < one[2] - 1 and one[1] < other[3] - 1 and other[1] < one[3] - 1


@pytest.mark.parametrize(
    "name", ["13 variants", pytest.param("40 variants", marks=pytest.mark.full), "quantized and served"]
)
def test_texts_of_drawings_neither_collide_nor_are_clipped(name: str) -> None:
    page = render_html(PAGES[name]())
    drawings = [*map(ElementTree.fromstring, re.findall(r"<figure>(<svg.*?</svg>)</figure>", page, flags=re.DOTALL))]
    assert sum(len(list(boxes(one))) for one in drawings) > 100
    assert [fault for one in drawings for fault in faults(one)] == []


PLACES = st.tuples(st.floats(FRAME[0], FRAME[2]), st.floats(FRAME[1], FRAME[3]))


@given(st.lists(st.tuples(PLACES, st.booleans()), max_size=30))
def test_names_beside_marks_stay_apart_and_within_the_frame(marks: list[tuple[tuple[float, float], bool]]) -> None:
    root = Element("svg", {"id": "x", "width": "740", "height": "440"})
    named = [(place, "series", f"attention-{number}-refit", bold) for number, (place, bold) in enumerate(marks)]
    names_beside(root, named, FRAME)
    assert list(faults(root)) == []
    for _, box in boxes(root):
        assert FRAME[0] <= box[0]
        assert box[2] <= FRAME[2]


def test_a_bold_name_may_cover_marks_and_a_plain_one_may_not() -> None:
    crowd = [((300.0 + 6 * x, 100.0 + 6 * y), "s", "", False) for x in range(60) for y in range(30)]
    root = Element("svg")
    names_beside(root, [*crowd, ((450.0, 180.0), "s", "bold", True), ((460.0, 190.0), "s", "plain", False)], FRAME)
    assert [text for text, _ in boxes(root)] == ["bold"]
