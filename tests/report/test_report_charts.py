"""Geometry of the charts: scales, ticks, labels, and what happens to infinite, missing and equal values."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report import formatting
from drop_ray.report.blocks import HeatRow, HeatStrip
from drop_ray.report.charts.axes import Scale, fit, levels, tick_label, whole_ticks
from drop_ray.report.charts.heat import heat_map
from drop_ray.report.charts.labels import spread
from drop_ray.report.charts.xy import xy_chart
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import ScoreRow, VariantRow
from drop_ray.report.sections.quality import quality_chart
from drop_ray.report.sections.scores import heat_strips, score_charts
from drop_ray.report.series import strategy_series
from drop_ray.report.statistics import Task


def variant(name: str, strategy: str, size: int, metric: str | None = "cosine") -> VariantRow:
    return VariantRow(name, strategy, metric, size, tuple(range(size)), (), 90, 10, 8, 8, None, 2_000)


def score(layer: int, mean: float, module: str = "attention", state: str = "base", gap: int = 1) -> ScoreRow:
    return ScoreRow(state, module, layer, gap, "cosine", mean, mean / 10)  # type: ignore[arg-type]


def test_linear_scale_and_round_ticks() -> None:
    scale = Scale(0.0, 0.5, 100, 0)
    assert (scale(0.0), scale(0.25), scale(0.5)) == (100, 50, 0)
    assert scale.ticks() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_log_scale_and_ticks() -> None:
    scale = Scale(1.0, 10_000.0, 0, 400, log=True)
    assert scale(100.0) == pytest.approx(200)
    assert scale.ticks() == [1, 10, 100, 1000, 10_000]


def test_values_outside_a_scale_stick_to_its_ends() -> None:
    for scale in (Scale(1, 2, 0, 10), Scale(1, 2, 0, 10, log=True)):
        assert scale(math.inf) == 10
        assert scale(-5) == 0


def test_fit_is_logarithmic_only_where_allowed_positive_and_wide() -> None:
    assert fit([1, 11], 0, 1, allow_log=True).log
    assert not fit([1, 10], 0, 1, allow_log=True).log
    assert not fit([1, 11], 0, 1).log
    assert not fit([0, 11], 0, 1, allow_log=True).log


def test_fit_ignores_infinite_values_and_refuses_nothing() -> None:
    assert fit([1, 2, math.inf, math.nan], 0, 1).high < 3
    with pytest.raises(ValueError, match="finite"):
        fit([math.nan], 0, 1)


MEASURABLE = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-30)


@given(MEASURABLE, st.floats(0, 1e6), st.booleans())
def test_a_fitted_axis_holds_its_values_and_has_ticks(low: float, extent: float, log: bool) -> None:
    scale = fit([low, low + extent], 0.0, 100.0, allow_log=log)
    assert scale.low < scale.high
    assert 0 <= scale(low) <= scale(low + extent) <= 100
    assert 1 <= len(scale.ticks()) <= 12
    assert all(scale.low <= tick + 1e-9 * abs(tick) + 1e-12 for tick in scale.ticks())


def test_levels_put_the_extremes_in_the_first_and_last_level() -> None:
    for values in ([1.0, 2.0, 3.0], [1.0, 10.0, 100.0], [0.0, 5.0]):
        level = levels(values, 8)
        assert [int(level(min(values))), int(level(max(values)))] == [0, 7]
    assert int(levels([2.0, 2.0], 8)(2.0)) == 0


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (0.0, "0"), (2000.0, "2000"), (1e6, "1e6"), (1e-6, "1e-6")])
def test_tick_labels_are_short(value: float, text: str) -> None:
    assert tick_label(value) == text


def test_whole_ticks_keep_to_their_limit() -> None:
    assert whole_ticks(11, 26) == list(range(12))
    assert whole_ticks(79, 26) == list(range(0, 80, 5))
    assert whole_ticks(0, 10) == [0]


@given(st.lists(st.floats(0, 300), max_size=15).map(sorted))
def test_spread_labels_never_overlap(positions: list[float]) -> None:
    moved = spread(positions, 17, 0, 300)
    assert all(after - before >= 17 - 1e-9 for before, after in pairwise(moved))
    assert all(0 - 1e-9 <= position <= 300 for position in moved)


def test_series_are_told_apart_by_strategy_and_metric() -> None:
    variants = [
        variant("base", "base", 0, None),
        variant("a1", "attention", 1),
        variant("a2", "attention", 2),
        variant("b1", "attention", 1, "angular"),
        variant("r1", "random-attention", 1, None),
        variant("mine", "file", 1, None),
    ]
    series = strategy_series(variants)
    assert [entry.label for entry in series] == [
        "attention (cosine)",
        "attention (angular)",
        "random-attention",
        "file",
    ]
    assert len({(entry.css, entry.shape) for entry in series}) == 4
    assert [entry.connected for entry in series] == [True, True, True, False]
    assert [len(entry.variants) for entry in series] == [2, 1, 1, 1]


RUN = RunFacts("r", "m", "id", 2, "float32", "c", "now", {}, "")


def chart(values: dict[str, Estimate], higher_is_better: bool = True, named: tuple[str, ...] = ()) -> str | None:
    variants = [variant("base", "base", 0, None), variant("a1", "attention", 1), variant("a2", "attention", 2)]
    task = Task("title", "acc", higher_is_better, None)
    return xy_chart(
        quality_chart("c", "title", task, Results(RUN, [], variants, [], [], []), values, named, labels=True)
    )


def test_quality_chart_draws_each_variant_once_with_its_error() -> None:
    drawing = chart({"base": Estimate(0.6, 0.1), "a1": Estimate(0.5, 0.1), "a2": Estimate(0.4, None)}, named=("a1",))
    assert drawing is not None
    root = ElementTree.fromstring(drawing)
    tooltips = [element.text for element in root.iter("title")]
    assert "a1: 0.5000 \u00b1 0.1000, 1 dropped" in tooltips
    assert "a2: 0.4000, 2 dropped" in tooltips
    assert len(root.findall(".//line[@class='error']")) == 1
    assert len(root.findall(".//*[@class='ring']")) == 1
    assert len(root.findall(".//rect[@class='band']")) == 1


def test_infinite_perplexity_sits_on_the_edge_and_nan_is_not_drawn() -> None:
    drawing = chart(
        {"base": Estimate(10.0, None), "a1": Estimate(math.inf, None), "a2": Estimate(math.nan, None)}, False
    )
    assert drawing is not None
    assert "infinite on the edge" in drawing
    assert 'class="point off-scale"' in drawing
    assert "a1: inf" in drawing
    assert "a2" not in drawing
    assert 'nan"' not in drawing


def test_a_chart_without_finite_values_is_not_drawn() -> None:
    assert chart({"base": Estimate(math.inf, None)}) is None
    assert chart({}) is None


def drawn(scores: list[ScoreRow], picked: dict[str, list[int]]) -> str:
    (only,) = score_charts("s", scores, 2, picked)
    return xy_chart(only) or ""


def test_scores_are_bars_or_dots_by_range() -> None:
    bars = drawn([score(0, 0.1), score(1, 0.2)], {"attention": [1]})
    assert bars.count('class="bar"') == 2
    assert bars.count('class="picked"') == 1
    dots = drawn([score(0, 0.001), score(1, 0.2)], {})
    assert dots.count('class="mark"') == 2
    assert dots.count('class="profile"') == 1
    assert "most redundant first: 0, 1" in dots
    assert "attention 1, base: 0.2 \u00b1 0.0392 (95 %)" in dots


def test_scores_of_all_modules_share_one_scale() -> None:
    charts = score_charts("s", [score(0, 0.1), score(1, 0.2), score(0, 0.8, "mlp"), score(1, 0.7, "mlp")], 2, {})
    ticks = [re.findall(r'text-anchor="end">([^<]*)<', str(xy_chart(chart))) for chart in charts]
    assert ticks[0] == ticks[1]
    assert "0.8" in ticks[0]


def test_scores_of_zero_are_drawn() -> None:
    assert drawn([score(0, 0.0), score(1, 0.0)], {}).count('class="bar"') == 2


def test_heat_map_leaves_dropped_layers_empty_and_frames_the_lowest() -> None:
    rows = [HeatRow("base", {0: 0.3, 1: 0.1}), HeatRow("attention-1", {0: 0.2})]
    drawing = heat_map(HeatStrip("h", "title", 2, rows))
    assert drawing.count("empty-cell") == 1
    assert drawing.count(" lowest") >= 2
    assert "heat-8" in drawing
    assert "lowest 1 (0.1)" in drawing


def strips(scores: list[ScoreRow]) -> list[tuple[str, list[str]]]:
    return [(one.title.split(":")[0], [row.label for row in one.rows]) for one in heat_strips("0", scores, 2)]


def test_heat_rows_exist_for_states_and_windows_only() -> None:
    single = [score(0, 0.1), score(1, 0.2), score(0, 0.3, "mlp")]
    assert strips(single) == []
    states = strips([*single, score(0, 0.4, state="attention-1")])
    assert states == [("attention", ["base", "attention-1"])]
    windows = strips([*single, score(0, 0.4, "block", gap=2), score(1, 0.4, "block", gap=2)])
    assert windows == [("block windows", ["2 blocks"])]


@pytest.mark.parametrize(
    ("attention", "mlp", "text"),
    [
        ((), (), "nothing"),
        ((9, 5, 6, 7), (), "attn 5-7,9"),
        ((5, 6), (5, 6), "block 5-6"),
        ((5, 6, 8), (5, 3), "block 5; attn 6,8; mlp 3"),
    ],
)
def test_dropped_layers_are_compact(attention: tuple[int, ...], mlp: tuple[int, ...], text: str) -> None:
    assert formatting.dropped_layers(attention, mlp) == text


def test_numbers_are_spelled_by_their_size() -> None:
    assert formatting.estimate(0.6123, 0.00519) == "0.6123 \u00b1 0.0052"
    assert formatting.estimate(12.345, 0.1) == "12.35 \u00b1 0.10"
    assert formatting.estimate(-0.5, None) == "\u22120.5000"
    assert formatting.signed(0.5, None) == "+0.5000"
    assert formatting.number(123456.0) == "1.23e+05"
    assert formatting.number(-math.inf) == "\u2212inf"
    assert formatting.binary_bytes(1023) == "1023 B"
    assert formatting.binary_bytes(1536) == "1.5 KiB"
    assert formatting.percent(0, 0) == "0.0 %"
