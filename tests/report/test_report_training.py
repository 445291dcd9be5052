"""Importance through training: rank correlation, which layers are redundant since when, and what the reports show."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_render import EVIL, NUM_LAYERS, Page, example, markdown_tables

from drop_ray.commands.summary import training_table
from drop_ray.planning.scores import Importance, ScoreTable
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.rows import TrainingRow
from drop_ray.report.sections.training import checkpoints, lines_of, training_sections
from drop_ray.report.tables import topic_table
from drop_ray.report.training import checkpoint_lines, most_redundant, redundant_since, spearman


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 1000], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),  # 1 - 6 * 4 / (5 * 24)
        ([1, 2, 2, 3], [1, 3, 2, 4], 4.5 / (4.5 * 5) ** 0.5),  # ranks 1, 2.5, 2.5, 4
        ([1, 1, 2, 2], [1, 2, 1, 2], 0.0),
    ],
)
def test_spearman_compares_ranks_and_shares_those_of_ties(first, second, expected):
    assert spearman(first, second) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1], [2])])
def test_a_side_without_a_ranking_has_no_correlation(first, second):
    assert spearman(first, second) is None


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=20))
def test_spearman_is_symmetric_and_blind_to_monotone_scaling(pairs):
    first, second = [list(side) for side in zip(*pairs, strict=True)]
    value = spearman(first, second)
    assert value == (None if value is None else pytest.approx(spearman(second, first)))
    assert value == spearman([x**3 for x in first], [2 * y - 7 for y in second])
    assert value is None or -1 - 1e-9 <= value <= 1 + 1e-9


def profile(*means):
    return dict(enumerate(means))


def test_a_quarter_of_the_layers_is_redundant_and_one_at_least():
    assert most_redundant(profile(5, 1, 4, 2, 6, 7, 8, 9)) == (1, 3)
    assert most_redundant(profile(3, 1, 2)) == (1,)
    assert most_redundant({4: 1.0, 2: 1.0, 7: 0.5, 9: 3.0, 1: 3.0, 5: 3.0, 6: 3.0, 8: 3.0}) == (7, 2)


def since(**profiles):
    lines = checkpoint_lines({revision: {"mlp": found} for revision, found in profiles.items()})
    return redundant_since(lines, "mlp")


def test_a_layer_is_redundant_since_the_revision_after_which_it_never_left_the_quarter():
    always_6, left_5, came_7 = 6, 5, 7
    early = profile(9, 9, 9, 9, 9, 1, 2, 9)
    middle = profile(9, 9, 9, 9, 1, 9, 2, 9)
    late = profile(9, 9, 9, 9, 9, 9, 2, 1)
    assert since(a=early, b=middle, c=late) == {"a": (always_6,), "c": (came_7,)}
    # A layer that left and came back counts from its return.
    assert since(a=early, b=middle, c=early) == {"a": (always_6,), "c": (left_5,)}


def test_every_checkpoint_is_compared_with_the_last():
    first, last = profile(1, 2, 3, 4), profile(4, 3, 2, 1)
    flat = profile(1, 1, 1, 1)
    lines = checkpoint_lines({"a": {"mlp": first}, "b": {"mlp": flat}, "c": {"mlp": last}})
    assert [line.revision for line in lines] == ["a", "b", "c"]
    assert [line.means["mlp"] for line in lines] == [2.5, 1.0, 2.5]
    assert [line.correlations["mlp"] for line in lines] == [pytest.approx(-1), None, pytest.approx(1)]
    assert [line.redundant["mlp"] for line in lines] == [(0,), (0,), (3,)]


def rows(revision, mean_of, metric="cosine"):
    return [
        TrainingRow("base", module, layer, 1, metric, mean_of(layer), 0.001, revision)
        for module in ("attention", "mlp", "block")
        for layer in range(NUM_LAYERS)
    ]


def with_training(first="step1", metric="cosine"):
    """Three training checkpoints of four layers: the ranking is turned over, then stays."""
    rising = rows(first, lambda layer: 0.01 * (layer + 1), metric)
    falling = [row for name in ("step2", "main") for row in rows(name, lambda layer: 0.05 - 0.01 * layer, metric)]
    return replace(example(), training=[*rising, *falling])


def test_a_heat_map_has_a_row_per_checkpoint_and_frames_its_redundant_quarter():
    page = render_html(with_training())
    for module in ("attention", "mlp", "block"):
        start = page.index(f'<svg id="training-0-{module}"')
        root = ElementTree.fromstring(page[start : page.index("</svg>", start) + len("</svg>")])
        framed = [cell[0].text for cell in root.iter("g") if "lowest" in cell[-1].get("class", "")]
        assert [text.split(",")[0] for text in framed] == [f"{module} 0", f"{module} 3", f"{module} 3"]
        labels = [element.text for element in root.iter("text")]
        assert [text for text in labels if text in ("step1", "step2", "main")] == ["step1", "step2", "main"]
        assert {"mean 0.025, \u03c1 \u22121.00", "mean 0.035, \u03c1 1.00", "mean 0.035"} <= set(labels)
    assert "attention: layers 3 since step2." in Page(page).text


def test_long_names_of_checkpoints_are_not_cut_off():
    name = "stage2-ingredient3-step23852-tokens51B"
    page = render_html(with_training(name))
    start = page.index('<svg id="training-0-attention"')
    root = ElementTree.fromstring(page[start : page.index("</svg>", start) + len("</svg>")])
    [label] = [element for element in root.iter("text") if element.text == name]
    assert float(label.get("x")) > 6 * len(name)


def test_markdown_has_the_same_table_and_a_strip_per_checkpoint_and_module():
    text = render_markdown(with_training())
    table = next(lines for lines in markdown_tables(text) if "revision" in lines[0])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [row[:3] + row[-1:] for row in cells] == [
        ["step1", "0.025", "\u22121.00", "0"],
        ["step2", "0.035", "1.00", "3"],
        ["main", "0.035", "1.00", "3"],
    ]
    assert "- attention: layers 3 since step2." in text
    for module in ("attention", "mlp", "block"):
        _, _, rest = text.partition(f"{module}: importance through training (cosine)")
        strips = rest.partition("```")[0].strip().splitlines()[2:]
        assert [strip.split()[0] for strip in strips] == ["step1", "step2", "main"]


def test_names_of_checkpoints_reach_the_reports_as_text():
    results = with_training(first=EVIL)
    page = render_html(results)
    assert page.count("<script") == 1
    assert EVIL in Page(page).text
    assert len(set(Page(page).ids)) == len(Page(page).ids)
    assert "<script" not in "\n".join(line for lines in markdown_tables(render_markdown(results)) for line in lines)


def test_a_run_of_a_single_checkpoint_shows_nothing_of_training():
    assert training_sections(example()) == []
    assert "through training" not in render_html(example()) + render_markdown(example())


def test_metrics_are_not_mixed():
    training = [row for revision in ("a", "b") for row in rows(revision, float)]
    training += [row for revision in ("a", "b") for row in rows(revision, lambda layer: 4.0 - layer, "angular")]
    both = replace(example(), training=training)
    lines = {metric: lines_of(checkpoints(both, metric)) for metric in ("cosine", "angular")}
    assert {metric: found[0].redundant["mlp"] for metric, found in lines.items()} == {"cosine": (0,), "angular": (3,)}
    ids = Page(render_html(both)).ids
    assert [name for name in ids if re.fullmatch("training-[0-9]-mlp", name)] == ["training-0-mlp", "training-1-mlp"]


def test_the_table_has_a_row_per_checkpoint_module_and_layer():
    training = topic_table("training", with_training()).to_pylist()
    assert len(training) == 3 * 3 * NUM_LAYERS
    [value] = [
        row["mean"]
        for row in training
        if (row["revision"], row["module"], row["layer"], row["metric"]) == ("step2", "mlp", 1, "cosine")
    ]
    assert value == pytest.approx(0.04)


def test_the_terminal_shows_a_line_per_checkpoint():
    def table(*means):
        return ScoreTable(
            {
                (module, layer, 1): Importance(mean, 0.0)
                for module in ("attention", "mlp", "block")
                for layer, mean in enumerate(means)
            }
        )

    lines = list(training_table("cosine", {"step1000": table(0.1, 0.2, 0.3, 0.4), "main": table(0.4, 0.3, 0.2, 0.1)}))
    assert lines == [
        "revision  attention       mlp     block  rank corr.  most redundant attention (cosine)",
        "step1000       0.25      0.25      0.25       -1.00  0",
        "main           0.25      0.25      0.25        1.00  3",
    ]


def test_checkpoints_that_have_no_attention_are_shown_too():
    results = with_training()
    results = replace(results, training=[row for row in results.training if row.module == "mlp"])
    assert "mlp: layers 3 since step2." in Page(render_html(results)).text
    assert "- mlp: layers 3 since step2." in render_markdown(results)
    table = ScoreTable({("mlp", layer, 1): Importance(1e-5 * (layer + 1), 0.0) for layer in range(4)})
    assert list(training_table("cosine", {"a": table, "b": table}))[1:] == [
        "a                 -   2.5e-05         -           -",
        "b                 -   2.5e-05         -           -",
    ]
