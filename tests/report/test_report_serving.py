"""The report's serving section: where plans are compared, the Pareto front, gamma, tables, drawings, and no section."""

import math
import re
from dataclasses import asdict, replace
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_results import BATCH_SIZES, GAINS, WORKLOADS, served_results
from test_report_render import EVIL, Page, example, markdown_tables

from drop_ray.job.artifacts import SERVING_SCHEMA
from drop_ray.report.answer import find_answer
from drop_ray.report.blocks import Table
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow
from drop_ray.report.sections.serving import (
    control_sentence,
    engine_sentence,
    gamma_table,
    gate_table,
    latency_table,
    memory_table,
    numbers_table,
    ratio_table,
)
from drop_ray.report.sections.serving_charts import speedup_chart
from drop_ray.report.series import variant_series
from drop_ray.report.serving import gamma_rows, pareto_front, references, trade_offs
from drop_ray.report.statistics import standings
from drop_ray.report.tables import topic_table
from drop_ray.stages.report_rows import engine_row, serving_rows

SERVED = served_results()
FIRST, SECOND = WORKLOADS
SPEED = "output_tokens_per_s"


def changed(results: Results, wanted, **values) -> Results:
    """With `values` in the serving rows that `wanted` picks."""
    return replace(results, serving=[replace(row, **values) if wanted(row) else row for row in results.serving])


def without(wanted) -> Results:
    """Without the serving rows that `wanted` picks."""
    return replace(SERVED, serving=[row for row in SERVED.serving if not wanted(row)])


def with_speedup(variant: str, low: float, value: float, high: float) -> Results:
    return changed(SERVED, lambda row: row.variant == variant and row.metric == SPEED, low=low, ratio=value, high=high)


def of_speed(variant: str, batch_size: int, workload: str = FIRST) -> ServingRow:
    place = (variant, batch_size, workload, SPEED, "equal_batch")
    rows = [
        row
        for row in SERVED.serving
        if (row.variant, row.batch_size, row.workload, row.metric, row.comparison) == place
    ]
    assert len(rows) == 1
    return rows[0]


def texts(table: Table) -> list[tuple[tuple[str, ...], ...]]:
    """The cells of a table, each with its notes."""
    return [tuple((cell.text, *cell.notes) for cell in row) for row in table.rows]


def drawing(results: Results, name: str) -> ElementTree.Element:
    drawings = re.findall(r"<svg.*?</svg>", render_html(results), flags=re.DOTALL)
    return next(root for text in drawings if (root := ElementTree.fromstring(text)).get("id") == name)


def css(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if name in element.get("class", "").split()]


def test_plans_are_compared_at_the_largest_batch_that_all_were_measured_at() -> None:
    results = without(lambda row: row.variant == "mlp-4" and row.workload == FIRST and row.batch_size == 32)
    found = references(results)
    assert [(reference.workload, reference.batch_size) for reference in found] == [(FIRST, 8), (SECOND, 32)]
    assert [*found[0].rows] == [*GAINS]
    assert found[0].rows["attention-4"] == of_speed("attention-4", 8)


def test_control_and_equal_memory_are_no_basis_of_comparison() -> None:
    results = without(lambda row: not row.control and row.comparison == "equal_batch")
    assert references(results) == []
    assert "times its tokens" not in find_answer(results).sentence


def test_a_workload_without_a_common_batch_size_has_no_comparison() -> None:
    results = without(lambda row: row.workload == FIRST and (row.variant == "mlp-4") == (row.batch_size == 32))
    assert [reference.workload for reference in references(results)] == [SECOND]


def test_the_front_holds_what_no_other_point_beats() -> None:
    points = [(1.0, 0.7), (1.1, 0.7), (1.2, 0.6), (1.15, 0.5), (1.2, 0.6), (0.9, 0.8)]
    assert pareto_front(points) == [False, True, True, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_every_point_off_the_front_is_beaten_by_one_on_it(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points)
    best = [point for point, on_front in zip(points, front, strict=True) if on_front]
    for point, on_front in zip(points, front, strict=True):
        beaten = any(other[0] >= point[0] and other[1] >= point[1] and other != point for other in best)
        assert beaten != on_front


def test_trade_offs_are_of_the_base_and_of_plans_with_both_quality_and_speed() -> None:
    evaluations = [row for row in SERVED.evaluations if row.variant != "mlp-4"]
    evaluations = [replace(row, value=math.nan) if row.variant == "block-4" else row for row in evaluations]
    results = replace(SERVED, evaluations=evaluations)
    points = trade_offs(standings(results), references(results)[0])
    assert [point.variant.name for point in points] == ["base", "attention-4", "attention-8"]
    assert points[0].speedup.value == 1
    assert points[2].speedup.value == of_speed("attention-8", 32).ratio


def test_gamma_is_points_of_the_paired_difference_per_percent_of_speedup() -> None:
    results = with_speedup("attention-8", 1.15, 1.2, 1.3)
    rows = standings(results)
    paired = next(row.paired for row in rows if row.variant.name == "attention-8")
    assert paired is not None
    found = [row for row in gamma_rows(rows, references(results)) if row.variant == "attention-8"]
    assert [row.workload for row in found] == [FIRST, SECOND]
    assert found[0].points_lost == pytest.approx(-100 * paired.value)
    assert found[0].points_lost_stderr == pytest.approx(100 * paired.stderr)
    assert found[0].gamma == pytest.approx(-100 * paired.value / 20)


def test_nothing_lost_is_not_minus_zero() -> None:
    same = [replace(row, value=1.0) for row in SERVED.documents]
    results = replace(SERVED, documents=same)
    (cells,) = {line[4:] for line in texts(gamma_table(gamma_rows(standings(results), references(results))))}
    assert cells == (("0.00", "\u00b1 0.00"), ("0.000", "[0.000, 0.000]"))


def test_an_undefined_gamma_is_said_and_is_no_number() -> None:
    results = with_speedup("attention-8", 0.99, 1.0001, 1.01)
    for text in (Page(render_html(results)).text, render_markdown(results)):
        assert "undefined: the speedup's interval contains 1" in text
    rows = topic_table("gamma", results).to_pylist()
    assert {row["variant"] for row in rows if row["gamma"] is not None} == {"attention-4", "mlp-4", "block-4"}
    assert {row["why"] for row in rows if row["variant"] != "attention-8"} == {""}


def test_without_paired_documents_gamma_is_unknown_and_without_an_evaluation_there_is_none() -> None:
    few = replace(SERVED, documents=[row for row in SERVED.documents if row.variant != "mlp-4"])
    unknown = [row for row in gamma_rows(standings(few), references(few)) if row.gamma is None]
    assert {(row.variant, row.why) for row in unknown} == {("mlp-4", "unknown: no paired difference of quality")}
    nothing = replace(SERVED, evaluations=[], documents=[])
    assert "Gamma" not in Page(render_html(nothing)).text
    assert "Gamma" not in render_markdown(nothing)


def test_the_named_variants_stand_with_speedup_and_interval() -> None:
    results = with_speedup("attention-4", 1.21, 1.25, 1.3)
    answer = find_answer(results)
    assert "1.250 times its tokens per second" in answer.sentence
    text = Page(render_html(results)).text
    assert answer.sentence in text
    assert "[1.210, 1.300]" in text.split(answer.sentence)[-1].split("Export, load")[0]
    assert "2048+2048, batch 32" in text


def test_the_first_sentence_claims_no_speedup_that_may_be_none() -> None:
    results = with_speedup("attention-4", 0.98, 1.01, 1.04)
    assert "as fast as it, as far as can be told" in find_answer(results).sentence


def test_a_plan_that_was_not_benchmarked_has_no_speed_in_the_first_sentence() -> None:
    results = without(lambda row: row.variant == "attention-4")
    assert "tokens per second" not in find_answer(results).sentence


def test_ratios_stand_with_intervals_and_predictions_control_first() -> None:
    table = ratio_table(SERVED)
    rows = texts(table)
    per_workload = len(BATCH_SIZES)
    assert len(rows) == 2 * (per_workload * 5 + 3)  # three variants free KV and are measured at equal memory too
    assert [row[0] for row in rows[: 2 * per_workload]] == [("base", "against itself")] * 2 * per_workload
    headings = [column.heading for column in table.columns[3:]]
    assert headings == ["output tokens/s", "prefill tokens/s", "predicted", "decode tokens/s", "predicted"]
    row = of_speed("attention-4", 8)
    line = next(line for line in rows if line[:3] == (("attention-4",), (FIRST,), ("8",)))
    assert line[3] == (f"{row.ratio:.3f}", f"[{row.low:.3f}, {row.high:.3f}]")
    prefill = next(
        other
        for other in SERVED.serving
        if (other.variant, other.workload, other.batch_size, other.metric)
        == ("attention-4", FIRST, 8, "prefill_tokens_per_s")
    )
    assert line[5] == (f"{prefill.predicted:.3f}",)
    assert any(line[2] == ("32 \u2192 64", "equal memory") for line in rows)


def test_a_metric_that_was_not_measured_leaves_a_gap() -> None:
    results = without(lambda row: row.variant == "mlp-4" and row.metric.startswith(("decode", "tpot")))
    lines = [line for line in texts(ratio_table(results)) if line[0] == ("mlp-4",)]
    assert all(line[-2:] == (("\u2013",), ("\u2013",)) for line in lines)
    assert [line[4] for line in texts(latency_table(results)) if line[0] == ("mlp-4",)] == [("\u2013",)] * 6


def test_latencies_have_one_unit_a_cell_and_the_bases_are_medians() -> None:
    def value(row: ServingRow) -> dict[str, float]:
        if row.metric == "ttft_p99_s":
            return {"base_value": {"base": 1.0, "attention-4": 3.0}.get(row.variant, 2.0), "variant_value": 0.5}
        return {"base_value": 0.01234, "variant_value": 0.01}

    results = replace(SERVED, serving=[replace(row, **value(row)) for row in SERVED.serving])
    base, variant, *_ = texts(latency_table(results))
    assert base == (("base",), (FIRST,), ("1",), ("0.0123 / 0.0123 / 2.00 s",), *[("12.3 / 12.3 / 12.3 ms",)] * 2)
    assert variant[0] == ("attention-4",)
    assert variant[3] == ("10.0 / 10.0 / 500 ms",)


def test_the_control_is_summed_up_or_its_absence_is_said() -> None:
    rows = [row for row in SERVED.serving if row.control]
    for wanted, inside in ((lambda row: row.control, 0), (lambda row: row.control and row.metric != SPEED, 6)):
        results = changed(changed(SERVED, lambda row: row.control, low=0.9, high=1.1), wanted, low=1.01, high=1.02)
        assert f"contain 1 in {inside} of {len(rows)} measurements" in control_sentence(results)
    assert control_sentence(without(lambda row: row.control)).startswith("There is no control")


def test_the_engine_is_named_with_its_mode_and_pairs() -> None:
    assert engine_sentence(SERVED) == ("vllm 0.32.0 on NVIDIA H100; engines resident, 5 pairs of measurements each.")


def test_memory_and_gate_are_spelled_out_where_known() -> None:
    _, _, attention, *_ = texts(memory_table(SERVED.engines))
    assert attention == (
        ("attention-8",),
        ("15.0 GiB \u2192 14.3 GiB", "4.2 % saved"),
        ("40,000 \u2192 80,000",),
        ("2.000", "predicted 2.000"),
        ("64.0 KiB \u2192 32.0 KiB", "50.0 % saved"),
        ("30.0 GiB \u2192 29.0 GiB", "3.3 % saved"),
    )
    unknown = replace(SERVED.engines[2], kv_tokens_base=None, kv_tokens_variant=None, peak_bytes_variant=None)
    (line,) = texts(memory_table([unknown]))
    assert (line[2], line[3], line[5]) == (("\u2013",),) * 3
    greedy = [texts(gate_table([replace(unknown, gate_greedy=value)]))[0][-1] for value in (None, True, False)]
    assert greedy == [("\u2013",), ("equal",), ("different",)]


def test_a_run_without_serving_has_no_section() -> None:
    results = replace(SERVED, serving=[], engines=[])
    assert "Serving" not in Page(render_html(results)).text
    assert "## Serving" not in render_markdown(results)
    assert "Serving" in Page(render_html(SERVED)).text


RESULTS = {
    "full": SERVED,
    "control only": without(lambda row: not row.control),
    "no control": without(lambda row: row.control),
    "one batch size": without(lambda row: row.batch_size > 1),
    "equal memory only": without(lambda row: row.comparison == "equal_batch"),
    "no evaluation": replace(SERVED, evaluations=[], documents=[]),
    "no facts": replace(SERVED, engines=[]),
    "no latencies": without(lambda row: row.metric.endswith("_s") and not row.metric.endswith("per_s")),
    "no output rate": without(lambda row: row.metric == SPEED),
    "evil": changed(
        replace(
            SERVED,
            engines=[replace(row, device=EVIL, engine_version=EVIL) for row in SERVED.engines],
        ),
        lambda row: row.workload == FIRST,
        workload=EVIL,
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_the_page_is_well_formed_and_markdown_lines_up(name: str) -> None:
    page = render_html(RESULTS[name])
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert page.count("<script") == 1
    for text in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        values = " ".join(value for element in ElementTree.fromstring(text).iter() for value in element.attrib.values())
        assert not re.search(r"\b(nan|inf)\b", values)
    markdown = render_markdown(RESULTS[name])
    assert "<script" not in re.sub(r"^(`{3,}).*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    for lines in markdown_tables(markdown):
        bars = [[match.start() for match in re.finditer(r"(?<!\\)\|", line)] for line in lines]
        assert all(positions == bars[0] for positions in bars)


def test_the_page_has_charts_of_every_workload_and_every_ratio() -> None:
    page = Page(render_html(SERVED))
    for index in range(len(WORKLOADS)):
        for name in ("speedup", "trade-off", "latency"):
            assert any(found.startswith(f"{name}-{index}") for found in page.ids), (name, index)
    for row in SERVED.serving:
        assert f"[{row.low:.3f}, {row.high:.3f}]" in page.text
    assert len(numbers_table(SERVED).rows) == len(SERVED.serving)


def test_the_speedup_chart_has_a_line_and_a_mark_of_its_own_for_each_plan_and_the_control() -> None:
    root = drawing(SERVED, "speedup-0")
    assert {element.text for element in css(root, "series-label")} == {"control", *GAINS}
    assert len(css(root, "point")) == 3 * 5 + 3
    assert len(css(root, "more-memory")) == 3
    marks = variant_series(SERVED.variants)
    assert len({mark.shape for mark in marks.values()}) == len(GAINS) + 1


def test_faster_stands_higher_and_a_larger_batch_further_right() -> None:
    root = drawing(with_speedup("attention-8", 2.9, 3.0, 3.1), "speedup-0")
    heights = {element.text: float(element.get("y", "")) for element in css(root, "series-label")}
    assert min(heights, key=heights.__getitem__) == "attention-8"
    assert max(heights, key=heights.__getitem__) == "control"
    ticks = {element.text: float(element.get("x", "")) for element in css(root, "tick") if element.get("y") == "301"}
    assert ticks["1"] < ticks["8"] < ticks["32"] < ticks["64"]
    assert "42" not in ticks  # too near to 32


def test_marks_of_many_plans_stay_within_the_frame() -> None:
    variants = [replace(SERVED.variants[1], name=f"attention-4-{index}") for index in range(20)]
    rows = [
        replace(row, variant=one.name) for one in variants for row in SERVED.serving if row.variant == "attention-4"
    ]
    results = replace(
        SERVED, variants=[SERVED.variants[0], *variants], serving=rows, engines=[], evaluations=[], documents=[]
    )
    root = drawing(results, "speedup-0")
    (base_line,) = css(root, "base-line")
    for bar in css(root, "error"):
        assert float(base_line.get("x1", "")) <= float(bar.get("x1", "")) <= float(base_line.get("x2", ""))


def test_a_workload_that_was_not_measured_has_no_speedup_chart() -> None:
    assert speedup_chart("x", SERVED, "unknown", variant_series(SERVED.variants)) is None


def test_the_scatter_names_the_front_in_bold_and_rings_the_answer() -> None:
    root = drawing(SERVED, "trade-off-0")
    assert {element.text for element in css(root, "front-label")} == {"base", "attention-4", "attention-8"}
    assert len(css(root, "ring")) == 1
    assert "Workload 2048+2048, batch 32" in [element.text for element in css(root, "chart-title")]
    assert "attention-8 (" in str(root[1].text)
    assert "mlp-4" not in str(root[1].text)


def test_names_in_the_scatter_do_not_cover_each_other() -> None:
    close = changed(SERVED, lambda row: row.metric == SPEED and not row.control, low=1.19, ratio=1.2, high=1.21)
    root = drawing(replace(close, evaluations=[replace(row, value=0.7) for row in SERVED.evaluations]), "trade-off-0")
    names = css(root, "series-label")
    places = [(element.get("x"), element.get("y"), element.get("text-anchor")) for element in names]
    assert len(names) == 5
    assert len(set(places)) == 5


def test_the_tables_have_every_serving_number() -> None:
    serving = topic_table("serving", SERVED).to_pylist()
    assert serving == [asdict(row) for row in SERVED.serving]
    engine = next(row for row in topic_table("engines", SERVED).to_pylist() if row["variant"] == "attention-8")
    assert engine["kv_tokens_variant"] == 80_000
    assert engine["gate_p99"] == 0.034
    assert engine["device"] == "NVIDIA H100"
    gamma = [row for row in topic_table("gamma", SERVED).to_pylist() if row["variant"] == "attention-8"]
    assert [row["workload"] for row in gamma] == [*WORKLOADS]
    assert all(row["gamma_low"] <= row["gamma"] <= row["gamma_high"] for row in gamma)


def test_measurements_of_unknown_plans_are_refused() -> None:
    for table in ({"serving": SERVED.serving[-1:]}, {"engines": SERVED.engines[-1:]}):
        with pytest.raises(ValueError, match="serving measurements of unknown variants: \\['block-4'\\]"):
            replace(example(), **table)


def test_what_a_benchmark_stored_becomes_the_reports_rows() -> None:
    row = of_speed("attention-8", 32)
    renamed = {"base_value": "base", "variant_value": "plan", "variant_batch_size": "plan_batch_size"}
    stored = {renamed.get(name, name): value for name, value in asdict(row).items() if name != "variant"}
    table = pa.Table.from_pylist([stored], schema=SERVING_SCHEMA)
    assert set(stored) == set(SERVING_SCHEMA.names)
    assert list(serving_rows("attention-8", table.to_pylist())) == [row]


def test_what_a_benchmark_says_of_its_engines_becomes_the_reports_facts() -> None:
    facts = {
        "gate": {
            **{"dtype": "float32", "tolerances": {"mean": 1e-4}, "mean_difference": 1e-6, "p99_difference": 2e-6},
            **{"top1_agreement": 1.0, "compared_tokens": 1016, "greedy_equal": True},
        },
        "kv": {
            **{"base_tokens": 100, "plan_tokens": 200, "base_blocks": 10, "plan_blocks": 20, "block_size": 10},
            **{"predicted_ratio": 2.0, "bytes_per_token_base": 64, "bytes_per_token_plan": 32, "layers": [0]},
        },
        "memory": {
            **{"base_weights_bytes": 7, "plan_weights_bytes": 6, "base_peak_bytes": None, "plan_peak_bytes": None},
        },
        "engine": {"name": "vllm", "version": "0.32.0", "device": "cpu", "settings": {}},
    }
    found = engine_row("p", facts)
    assert asdict(found) == {
        **{"variant": "p", "engine": "vllm", "engine_version": "0.32.0", "device": "cpu"},
        **{"kv_tokens_base": 100, "kv_tokens_variant": 200, "kv_predicted_ratio": 2.0},
        **{"kv_bytes_per_token_base": 64, "kv_bytes_per_token_variant": 32},
        **{"weights_bytes_base": 7, "weights_bytes_variant": 6},
        **{"peak_bytes_base": None, "peak_bytes_variant": None},
        **{"gate_dtype": "float32", "gate_mean": 1e-6, "gate_p99": 2e-6, "gate_top1_agreement": 1.0},
        **{"gate_tokens": 1016, "gate_greedy": True, "kv_cache_dtype": "auto"},
    }


def test_what_vllm_makes_at_load_is_a_further_row_and_no_variant() -> None:
    base = SERVED.variants[0].name
    rows = [replace(row, variant=f"{base}-fp8-at-load", control=False) for row in SERVED.serving if row.control]
    engine = replace(SERVED.engines[0], variant=f"{base}-fp8-at-load", kv_cache_dtype="fp8_e4m3")
    results = replace(SERVED, serving=[*SERVED.serving, *rows], engines=[*SERVED.engines, engine])
    text = render_markdown(results) + render_html(results)
    assert f"{base}-fp8-at-load" in text
    assert "KV cache in fp8_e4m3" in engine_sentence(results)
    assert f"{base}-fp8-at-load" in topic_table("serving", results)["variant"].to_pylist()
    with pytest.raises(ValueError, match="unknown variants"):
        replace(SERVED, serving=[replace(rows[0], variant="other-fp8-at-load")])
