"""Dropping and quantizing in the report: the grid, the sum of effects, output errors, and what must not see forms."""

import math
import re
from dataclasses import asdict, replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantized_results import ADDED, EXCESS, GAIN, METHODS, NATS, NUM_SAMPLES, SHARES, VARIANTS, quantized_results
from test_report_render import EVIL, Page, markdown_tables

from drop_ray.report.answer import find_answer
from drop_ray.report.formatting import NOT_AVAILABLE
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.quantization import (
    DifferenceRow,
    Grid,
    differences,
    effects,
    perplexity_tasks,
    quantization_grid,
    reconstructions,
)
from drop_ray.report.results import Results
from drop_ray.report.sections.quantization import (
    effects_text,
    grid_text,
    quality_tables,
    reconstruction_sentences,
    reconstruction_table,
    settings_table,
    size_table,
    speed_tables,
)
from drop_ray.report.serving import references, trade_offs
from drop_ray.report.statistics import standings
from drop_ray.report.tables import topic_table

QUANTIZED = quantized_results()
(WIKITEXT,) = perplexity_tasks(QUANTIZED)
GONE = "attention-4-gptq"


def grid_of(results: Results) -> Grid:
    grid = quantization_grid(results)
    assert grid is not None
    return grid


GRID = grid_of(QUANTIZED)


def difference(results: Results, variant: str) -> DifferenceRow:
    (row,) = [row for row in differences(results, WIKITEXT) if row.variant == variant]
    return row


def without(variant: str, *tables: str) -> Results:
    """Without a variant's rows in some tables; `variants` is the table of variants."""
    column = {"variants": "name"}
    kept = {
        table: [row for row in getattr(QUANTIZED, table) if getattr(row, column.get(table, "variant")) != variant]
        for table in tables
    }
    return replace(QUANTIZED, **kept)


def tables_of(results: Results) -> dict[str, dict[str, tuple]]:
    """Measure -> row -> cells with their notes, of which the first is the variant as it is."""
    grid = grid_of(results)
    perplexity, average = quality_tables(results, grid)
    speeds = speed_tables(results, grid)
    named = {"perplexity": perplexity, "average": average, "size": size_table(results, grid)}
    named |= {"speed": speeds[0]} if speeds else {}
    return {
        name: {row[0].text: tuple((cell.text, *cell.notes) for cell in row[1:]) for row in table.rows}
        for name, table in named.items()
    }


RESULTS = {
    "full": QUANTIZED,
    "a form missing": without(
        GONE, "variants", "evaluations", "documents", "serving", "engines", "quantization_errors"
    ),
    "a form not evaluated": without(GONE, "evaluations", "documents"),
    "not served": replace(QUANTIZED, serving=[], engines=[]),
    "not evaluated": replace(QUANTIZED, evaluations=[], documents=[]),
    "no errors": replace(QUANTIZED, quantization_errors=[]),
    "evil": replace(
        QUANTIZED,
        variants=[
            replace(
                plan, checkpoint=EVIL, quantization=replace(plan.quantization, label=plan.quantization.label + EVIL)
            )
            if plan.quantization
            else plan
            for plan in QUANTIZED.variants
        ],
    ),
}


def test_every_measure_has_the_same_rows_and_columns() -> None:
    for rows in tables_of(QUANTIZED).values():
        assert [*rows] == [*VARIANTS]
    tables = [*quality_tables(QUANTIZED, GRID), size_table(QUANTIZED, GRID), *speed_tables(QUANTIZED, GRID)]
    assert len(tables) == 5
    headings = {tuple(column.heading for column in table.columns[:4]) for table in tables}
    assert headings == {("variant", "bfloat16", *METHODS)}


def test_a_form_is_compared_with_its_own_plan_and_not_with_the_base() -> None:
    cells = tables_of(QUANTIZED)
    value, difference = cells["perplexity"]["block-4"][1]
    assert value == f"{math.exp(NATS['block-4'] + ADDED['awq']):.2f}"
    assert difference.startswith(f"+{100 * math.expm1(ADDED['awq']):.2f} % \u00b1 0.")
    value, difference = cells["average"]["block-4"][1]
    assert value == "0.5920"
    assert difference == "\u22120.0040 \u00b1 0.0028"  # two documents of 500


def test_sizes_are_shares_of_the_base_and_the_kv_cache_stands_once() -> None:
    row = tables_of(QUANTIZED)["size"]["base"]
    assert row == (("15.0 GiB", "100.0 %"), ("4.5 GiB", "30.0 %"), ("4.5 GiB", "30.0 %"), ("64.0 KiB",))
    assert tables_of(QUANTIZED)["size"]["attention-4"][3] == ("48.0 KiB",)


def test_speeds_are_ratios_to_the_base_as_it_is() -> None:
    cells = tables_of(QUANTIZED)["speed"]
    assert cells["base"][0] == ("1.000", "by definition")
    (first, _) = references(QUANTIZED)
    expected = GAIN * first.rows["attention-4"].ratio
    assert cells["attention-4"][1][0] == f"{expected:.3f}"


def test_a_missing_cell_is_a_dash_with_its_reason() -> None:
    cells = tables_of(RESULTS["a form missing"])
    for name in cells:
        assert cells[name]["attention-4"][2] == (NOT_AVAILABLE, "not quantized"), name
    cells = tables_of(RESULTS["a form not evaluated"])
    assert cells["perplexity"]["attention-4"][2] == cells["average"]["attention-4"][2]
    assert cells["average"]["attention-4"][2] == (NOT_AVAILABLE, "not evaluated")
    assert cells["size"]["attention-4"][2][0] == "4.4 GiB"
    cells = tables_of(without(GONE, "serving"))
    assert cells["speed"]["attention-4"][2] == (NOT_AVAILABLE, "not measured")


def test_a_form_of_an_unevaluated_plan_keeps_its_value_without_a_difference() -> None:
    cells = tables_of(without("attention-4", "evaluations", "documents"))
    assert cells["perplexity"]["attention-4"][0] == (NOT_AVAILABLE, "not evaluated")
    assert cells["perplexity"]["attention-4"][1][1] == "no difference known"
    assert cells["average"]["attention-4"][1] == ("0.6940", "no difference known")


def test_plans_that_are_never_quantized_are_counted_and_not_shown() -> None:
    kept = [plan for plan in QUANTIZED.variants if not (plan.quantization and plan.quantization.of == "block-4")]
    names = {plan.name for plan in kept}
    results = replace(
        QUANTIZED,
        variants=kept,
        **{
            table: [row for row in getattr(QUANTIZED, table) if row.variant in names]
            for table in ("evaluations", "documents", "serving", "engines", "quantization_errors")
        },
    )
    grid = grid_of(results)
    assert [row.name for row in grid.rows] == ["base", "attention-4"]
    assert "not among the rows: 1 variant." in grid_text(results, grid)
    assert "not among" not in grid_text(QUANTIZED, GRID)


def test_perplexities_are_paired_by_sample_where_there_are_samples() -> None:
    paired = difference(QUANTIZED, "base-awq")
    assert paired.difference == pytest.approx(ADDED["awq"])
    assert paired.stderr is not None
    # Texts differ by 0.3 nats and forms by 0.01: only pairing finds the latter.
    assert 0.5 < paired.stderr / (0.01 * math.sqrt(2 / NUM_SAMPLES)) < 2
    unpaired = replace(QUANTIZED, documents=[row for row in QUANTIZED.documents if row.metric != "nll"])
    found = difference(unpaired, "base-awq")
    assert (found.difference, found.stderr) == (pytest.approx(ADDED["awq"]), None)


def test_effects_are_sums_of_logarithms() -> None:
    rows = {(row.variant, row.label): row for row in effects(QUANTIZED, WIKITEXT)}
    assert [*rows] == [(plan, method) for plan in VARIANTS[1:] for method in METHODS]
    for (plan, label), row in rows.items():
        assert row.dropping == pytest.approx(NATS[plan] - NATS["base"])
        assert row.quantizing == pytest.approx(ADDED[label])
        assert row.excess == pytest.approx(EXCESS.get((plan, label), 0.0), abs=1e-12)
        assert row.stderr == pytest.approx(0.02 / math.sqrt(NUM_SAMPLES), rel=0.5)  # of four samples of 0.01


@given(st.lists(st.floats(1.0, 1e6), min_size=3, max_size=3))
def test_the_excess_is_none_exactly_where_perplexities_multiply(values: list[float]) -> None:
    base, plan, base_form = values
    perplexities = {"base": base, "block-4": plan, "base-gptq": base_form, "block-4-gptq": plan * base_form / base}
    rows = [
        replace(row, value=perplexities.get(row.variant, row.value)) if row.task == "wikitext" else row
        for row in QUANTIZED.evaluations
    ]
    found = effects(replace(QUANTIZED, evaluations=rows), WIKITEXT)
    (row,) = (row for row in found if (row.variant, row.label) == ("block-4", "gptq"))
    assert row.excess == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
def test_a_perplexity_without_a_logarithm_has_no_effects_and_no_difference(value: float) -> None:
    rows = [
        replace(row, value=value) if row.variant == "block-4" and row.task == "wikitext" else row
        for row in QUANTIZED.evaluations
    ]
    results = replace(QUANTIZED, evaluations=rows)
    assert {row.variant for row in effects(results, WIKITEXT)} == {"attention-4"}
    assert tables_of(results)["perplexity"]["block-4"][1][1] == "no difference known"
    assert Page(render_html(results)).text.count("no difference known") == 2


def test_the_sum_of_effects_is_put_in_words() -> None:
    text = effects_text(effects(QUANTIZED, WIKITEXT))
    assert "farthest from its sum is block-4 with gptq: its perplexity is 5.13 % above" in text
    assert text.endswith("More than two standard errors from the sum: 1 of 4 (block-4 with gptq).")
    below = [replace(row, both=row.both - 0.1, stderr=None) for row in effects(QUANTIZED, WIKITEXT)]
    assert "% below what" in effects_text(below)
    assert "standard errors from the sum" not in effects_text(below)


def test_summed_errors_are_shares_of_rounding_to_nearest() -> None:
    rows = reconstructions(QUANTIZED, GRID)
    assert [(row.variant, row.label) for row in rows] == [(plan, method) for method in METHODS for plan in VARIANTS]
    for row in rows:
        assert row.ratio == pytest.approx(SHARES[row.label])
    assert [row.num_modules for row in rows[:3]] == [32, 28, 24]
    assert reconstruction_sentences(rows)[1] == "gptq: the summed error is 0.60 of that of rounding to nearest."
    rows[-1] = replace(rows[-1], error=1.25 * rows[-1].round_to_nearest)
    assert "is 0.60 (attention-4) to 1.25 (block-4) of" in reconstruction_sentences(rows)[1]


def test_without_an_error_of_rounding_there_is_no_ratio() -> None:
    (row, *_) = reconstructions(QUANTIZED, GRID)
    row = replace(row, round_to_nearest=0.0)
    assert reconstruction_table([row]).rows[0][-1].text == NOT_AVAILABLE
    assert reconstruction_sentences([row]) == []


def test_settings_and_checkpoints_are_listed() -> None:
    rows = settings_table(GRID).rows
    assert len(rows) == len(VARIANTS) * len(METHODS)
    settings = "awq, 4 bits, groups of 128, with zero points"
    assert [cell.text for cell in rows[0][2:]] == [settings, "s3://b/checkpoints/base-awq/"]
    assert rows[3][2].text == "gptq, 4 bits, groups of 128, symmetric"


def test_quantized_variants_stand_among_the_others_and_change_nothing_about_them() -> None:
    plain = QUANTIZED.unquantized()
    rows = {row.variant: row for row in find_answer(QUANTIZED).rows}
    assert {row.variant: row for row in find_answer(plain).rows}.items() <= rows.items()
    assert {row.name for row in QUANTIZED.variants[1:]} == rows.keys()
    text = render_markdown(QUANTIZED).split("## Variants")[1].split("\n## ")[0]
    assert all(f"| {row.name} " in text for row in QUANTIZED.variants)


def test_a_run_without_quantization_has_no_section() -> None:
    plain = QUANTIZED.unquantized()
    assert quantization_grid(plain) is None
    _, _, body = render_html(plain).partition("</style>")
    for text in (body, render_markdown(plain)):
        assert "quantiz" not in text.lower()


def test_serving_has_lines_of_plans_and_hollow_marks_of_forms() -> None:
    page = render_html(QUANTIZED)
    drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)]
    by_name = {root.get("id"): root for root in drawings}
    lines = "".join(by_name["speedup-0"].itertext())
    assert "attention-4" in lines
    assert "awq" not in lines
    forms = [element for element in by_name["trade-off-0"].iter() if "quantized" in element.get("class", "")]
    tooltips = {text for element in forms for text in element.itertext() if "speedup" in text}
    assert len(tooltips) == len(VARIANTS) * len(METHODS)
    assert "Hollow marks are quantized." in page
    points = {point.variant.name: point for point in trade_offs(standings(QUANTIZED), references(QUANTIZED)[0])}
    assert points["base"].speedup.value == 1
    assert points["base-awq"].speedup.value > 1.4


@pytest.mark.parametrize("name", RESULTS)
def test_the_page_is_well_formed_and_markdown_lines_up(name: str) -> None:
    page = render_html(RESULTS[name])
    parsed = Page(page)
    assert "Dropping and quantizing" in parsed.text
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert page.count("<script") == 1
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(drawing)
        assert "nan" not in " ".join(value for element in root.iter() for value in element.attrib.values())
    text = render_markdown(RESULTS[name])
    assert "<script" not in text
    for lines in markdown_tables(text):
        bars = [[match.start() for match in re.finditer(r"(?<!\\)\|", line)] for line in lines]
        assert all(positions == bars[0] for positions in bars)


def test_parts_without_numbers_are_left_out() -> None:
    text = render_markdown(RESULTS["not served"])
    assert "Speed was not measured in this run." in text
    assert "### Speed" not in text
    text = render_markdown(RESULTS["not evaluated"])
    assert "Nothing was evaluated in this run." in text
    assert "### Quality" not in text
    assert "sum of the effects" not in text
    assert "### Reconstruction" not in render_markdown(RESULTS["no errors"])
    assert "Reconstruction" not in Page(render_html(RESULTS["no errors"])).text


def test_errors_are_drawn_for_every_module_that_is_left_and_lines_break_at_dropped_layers() -> None:
    kept = [row for row in QUANTIZED.quantization_errors if row.layer not in (5, 6)]
    page = render_html(replace(QUANTIZED, quantization_errors=kept))
    drawing = re.search(r'<svg id="error-0-attention".*?</svg>', page, flags=re.DOTALL)
    assert drawing is not None
    root = ElementTree.fromstring(drawing.group())
    points = [element for element in root.iter() if element.get("class") == "point"]
    assert len(points) == 14 + 10 + 10
    lines = [element for element in root.iter() if element.get("class") == "line"]
    assert len(lines) == 2 * len(VARIANTS)


def test_the_tables_have_what_the_section_shows() -> None:
    def row(topic: str, **where: object) -> dict:
        rows = topic_table(topic, QUANTIZED).to_pylist()
        (found,) = [row for row in rows if all(row[key] == wanted for key, wanted in where.items())]
        return found

    variant = row("variants", name="block-4-gptq")
    assert variant["weight_bytes"] == GRID.columns["gptq"]["block-4"].weight_bytes
    assert (variant["quantization_of"], variant["quantization_label"]) == ("block-4", "gptq")
    assert (variant["quantization_bits"], variant["quantization_symmetric"]) == (4, True)
    assert row("variants", name="block-4")["quantization_bits"] is None
    added = ADDED["gptq"] + EXCESS["block-4", "gptq"]
    difference = row("quantization_differences", variant="block-4-gptq", task="wikitext")
    assert difference["difference"] == pytest.approx(added)
    effect = row("quantization_effects", variant="block-4", label="gptq")
    assert effect["excess"] == pytest.approx(EXCESS["block-4", "gptq"])
    assert effect["both"] == pytest.approx(NATS["block-4"] - NATS["base"] + added)
    error = row("quantization_errors", variant="block-4-gptq", layer=3, module="mlp")
    assert error in [asdict(row) for row in QUANTIZED.quantization_errors]


def test_contradicting_forms_are_refused() -> None:
    *others, last = QUANTIZED.variants
    stray = replace(last, name="x", quantization=replace(last.quantization, of="y"))
    with pytest.raises(ValueError, match="from unknown variants"):
        replace(QUANTIZED, variants=[*others, last, stray])
    with pytest.raises(ValueError, match="quantized more than once"):
        replace(QUANTIZED, variants=[*others, last, replace(last, name="x")])
