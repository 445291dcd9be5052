"""Pareto fronts over all variants: who is on them, and that names in the charts cover nothing."""

import math
import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

from judged_results import judged, variant
from quantized_results import quantized_results

from drop_ray.report.charts.xy import xy_chart
from drop_ray.report.fronts import on_fronts, size_fronts
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.sections.front import front_chart, front_sections
from drop_ray.report.series import strategy_series

SMALL, LARGE = variant("small", (1,)), variant("large", (1, 2, 3))
AWQ = variant("small-awq", (1,), quantized="small")


def results():
    """Quality falls from small to awq to large, and bytes from small to large to awq."""
    flips = {("small", "t"): (10, 0, 100), ("large", "t"): (30, 0, 100), ("small-awq", "t"): (20, 0, 100)}
    return judged([SMALL, LARGE, AWQ], flips)


def test_what_another_beats_in_both_is_not_on_the_front():
    (front,) = size_fronts(results())
    assert [row.name for row in front.members] == ["small-awq", "small", "base"]
    assert {row.name for row in front.points} == {"base", "small", "large", "small-awq"}
    assert on_fronts(results()) == {name: ["average"] for name in ("base", "small", "small-awq")}


def test_steps_lead_along_the_front():
    (front,) = size_fronts(results())
    assert front.corners() == [(475.0, 0.3), (1900.0, 0.3), (1900.0, 0.4), (2000.0, 0.4), (2000.0, 0.5)]


def test_what_has_no_finite_number_is_left_out():
    made = results()
    rows = [replace(row, value=math.nan) if row.variant == "small" else row for row in made.evaluations]
    (front,) = size_fronts(replace(made, evaluations=rows))
    assert [row.name for row in front.members] == ["small-awq", "base"]
    assert front_sections(replace(made, evaluations=[], documents=[])) == []


def test_speed_counts_where_it_was_measured():
    found = on_fronts(quantized_results())
    assert any("speed" in fronts for fronts in found.values())
    assert "average" in found["base"]


def test_page_table_and_text_name_the_front():
    made = quantized_results()
    (front,) = size_fronts(made)
    names = [row.name for row in front.members]
    text = render_markdown(made)
    assert "On the front of average: " + names[0] in text
    rows = [line for line in text.split("## Variants")[1].split("\n## ")[0].splitlines() if "on the front of" in line]
    assert {line.split("|")[1].split()[0] for line in rows} == {*on_fronts(made)}
    assert 'id="front-average"' in render_html(made)


def boxes(drawing):
    """Name, left, right and baseline of the names beside marks; a character takes 7.4 pixels at most."""
    for text in ElementTree.fromstring(drawing).iter("text"):
        if "series-label" in text.get("class", ""):
            length, x = 7.4 * len(text.text), float(text.get("x"))
            left = x - length if text.get("text-anchor") == "end" else x
            yield text.text, left, left + length, float(text.get("y"))


def test_forty_variants_have_names_that_do_not_touch_and_stay_inside():
    rows = [variant(f"attention-{size}", tuple(range(size % 4))) for size in range(1, 41)]
    rows = [replace(row, weight_bytes=2000 - 10 * size) for size, row in enumerate(rows, 1)]
    made = judged(rows, {(row.name, "t"): (size, 0, 500) for size, row in enumerate(rows, 1)})
    (front,) = size_fronts(made)
    assert len(front.members) == 41
    found = [*boxes(xy_chart(front_chart(front, strategy_series(made.variants), ())))]
    assert len(found) > 10
    for (_, left, right, y), (_, other_left, other_right, other_y) in combinations(found, 2):
        assert right <= other_left or other_right <= left or abs(y - other_y) >= 14
    assert all(left >= 48 and right <= 1120 - 14 for _, left, right, _ in found)


def test_series_of_one_colour_have_shapes_of_their_own():
    refitted = [
        replace(SMALL, name="small-refit", refit="refit", changes=("refit",)),
        variant("i", (2,), strategy="attention-iterative2"),
    ]
    made = judged([SMALL, *refitted], {(name, "t"): (1, 0, 50) for name in ("small", "small-refit", "i")})
    (section,) = front_sections(made)
    marks = {
        text: re.search(r"<(circle|polygon)[^>]*points=\"([^\"]*)\"|<circle", str(mark))
        for text, mark in section.blocks[0].legend
    }
    drawn = [mark[0] for mark in marks.values()]
    assert len({*drawn}) == len(drawn) - 1  # the base has the circle too, in grey
