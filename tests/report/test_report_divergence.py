"""Panels in the report: rows, which variants they tell apart, and what is said where there are none."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_report_render import EVIL, Page, example

from drop_ray.evaluation.divergence.panel import panel_of
from drop_ray.report.divergence import equal_variants, pairs
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.results import Results
from drop_ray.report.tables import topic_table

TITLE = "Predictions against the base's"
TEXT = DivergenceText("corpus.txt, behind the 8 calibration samples", 3, 9)
KL = {"attention-1": [0.1, 0.3, 0.2], "mlp-1": [0.9, 1.2, 1.1], "block-2": [0.95, 1.1, 1.2], "by-hand": [0.9, 1.2, 1.1]}


def panel_rows(variant, means):
    """A panel whose tokens are all like their sample's mean."""
    kl = np.repeat(np.array(means)[:, None], 8, axis=1)
    panel = panel_of(kl, np.ones_like(kl), 1 + kl, np.full_like(kl, 0.5), np.full_like(kl, 0.25))
    samples = [
        DivergenceSampleRow(variant, number, 8, mean, 1.0, 1.0 + mean, 0.5, 0.25) for number, mean in enumerate(means)
    ]
    return DivergenceRow(**vars(panel), variant=variant), samples


def with_panels(values=KL, text=TEXT) -> Results:
    rows = [panel_rows(*pair) for pair in values.items()]
    samples = [row for _, found in rows for row in found]
    return replace(example(), divergences=[row for row, _ in rows], divergence_samples=samples, divergence_text=text)


def section(results):
    text = render_markdown(results)
    return text[text.index(f"## {TITLE}") :].split("\n## ")[0]


def test_neighbours_are_compared_in_the_order_of_kl_and_equal_variants_are_one():
    results = with_panels()
    found = [pair for pair in pairs(results) if pair.order == "kl"]
    assert [(pair.variant, pair.following) for pair in found] == [("attention-1", "mlp-1"), ("mlp-1", "block-2")]
    assert found[0].difference == pytest.approx(13 / 15)
    assert found[0].standard_errors == pytest.approx(
        (13 / 15) / (math.sqrt(((0.8 - 13 / 15) ** 2 + 2 * (0.9 - 13 / 15) ** 2) / 2) / math.sqrt(3))
    )
    assert [pair.separated for pair in found] == [True, False]
    assert equal_variants(results) == [["mlp-1", "by-hand"]]


def test_the_section_has_text_table_chart_and_pairs():
    results = with_panels()
    text = section(results)
    assert "the same 3 samples of 9 tokens (corpus.txt, behind the 8 calibration samples)" in text
    assert "0.200 ± 0.058" in text
    assert "1.221 [1.091, 1.368]" in text  # exp(0.2), and 1.96 standard errors around 0.2
    assert "That holds of 1 of 2 neighbours in the order of KL." in text
    assert "mlp-1, by-hand have the same numbers" in text
    page = Page(render_html(results))
    assert "KL to the base" in page.text
    assert "attention-1: 0.200 ± 0.058 nats per token, 1 dropped" in page.text


def test_variants_of_one_strategy_are_compared_in_the_order_of_what_they_drop():
    base, one, *_ = example().variants
    names = {"two": (0, 2), "three": (0, 1, 2), "again": (1, 2)}
    more = [replace(one, name=name, drop_attn=layers) for name, layers in names.items()]
    values = {
        "three": [0.1, 0.2, 0.3],
        "attention-1": [0.2, 0.3, 0.5],
        "two": [1.0, 1.1, 1.4],
        "again": [2.0, 2.0, 2.1],
    }
    results = replace(with_panels({}), variants=[base, more[1], one, more[0], more[2]], evaluations=[], documents=[])
    rows = [panel_rows(*pair) for pair in values.items()]
    results = replace(
        results, divergences=[row for row, _ in rows], divergence_samples=[row for _, found in rows for row in found]
    )
    found = [pair for pair in pairs(results) if pair.order == "size"]
    assert [(pair.variant, pair.following, pair.difference > 0) for pair in found] == [
        ("attention-1", "two", True),
        ("two", "three", False),
    ]


def test_a_shortage_is_said_with_panels_and_without():
    short = replace(TEXT, shortage="corpus.txt has 3 of the 32 samples; the panels are of these 3")
    assert "Corpus.txt has 3 of the 32 samples; the panels are of these 3." in section(with_panels(text=short))
    none = replace(
        TEXT, num_samples=0, shortage="the text has 0 of the 32 samples, so no variant has a panel; name one"
    )
    assert "The text has 0 of the 32 samples, so no variant has a panel; name one." in section(with_panels({}, none))


def test_a_run_that_compares_nothing_has_no_such_section():
    assert TITLE not in render_markdown(example())


def test_a_variant_that_is_the_base_stands_in_the_table_and_in_no_logarithmic_chart():
    results = with_panels({"attention-1": [0.0, 0.0, 0.0], "mlp-1": [0.1, 0.3, 0.2]})
    assert "attention-1" in section(results)
    assert "mlp-1: 0.200" in Page(render_html(results)).text
    assert pairs(results)[0].difference == pytest.approx(0.2)
    alone = with_panels({"attention-1": [0.0, 0.0, 0.0]})
    assert "tells apart" not in section(alone)


def test_names_are_escaped_and_panels_of_unknown_variants_refused():
    evil = with_panels(text=replace(TEXT, source=EVIL))
    assert EVIL not in render_html(evil)
    with pytest.raises(ValueError, match="divergence panels of unknown variants: .*nobody"):
        with_panels({"nobody": [1.0, 2.0]})


def test_tables_have_the_panels_samples_and_pairs():
    results = with_panels()
    panels = topic_table("divergences", results).to_pylist()
    assert [row["variant"] for row in panels] == [*KL]
    assert panels[0]["kl"] == pytest.approx(0.2)
    assert panels[0]["perplexity_ratio"] == pytest.approx(math.exp(0.2))
    assert topic_table("divergence_samples", results).num_rows == 12
    assert topic_table("divergence_pairs", results).column("separated").to_pylist() == [True, False]
