"""What the report says of the damage gates: the table, what is stopped and why, cliffs, and the first line."""

from dataclasses import replace

import pytest
from judged_results import BASE, RUN, variant
from test_report_answer import scored
from test_report_render import Page

from drop_ray.report.gate_rows import CliffRow, GateRow, VerdictRow
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.results import Results
from drop_ray.report.sections.gates import gates_sections
from drop_ray.report.tables import topic_table

LOST = "needle at 1,024 tokens: 0.97 -> 0.41, loses 0.56 (0.35 to 0.69)"


def gate(name, variant, outcome, share=None, loss=None, base=0.97, reason="because"):
    bounds = (None,) * 3 if loss is None else (loss, loss - 0.1, loss + 0.1)
    return GateRow(variant, name, name.replace("-", " at "), outcome, reason, 64, 0.25, base, share, *bounds)


def results(**fields) -> Results:
    variants = [BASE, variant("small", (1,)), variant("large", (1, 2))]
    made = Results(
        RUN,
        [],
        variants,
        [scored(row.name, 0.6) for row in variants],
        [],
        [],
        verdicts=[VerdictRow("small", "accept", "fine", 0.1, 0.95), VerdictRow("large", "regression", LOST, 0.1, 0.95)],
        gates=[
            gate("needle-1024", "small", "accept", 0.97, 0.0),
            gate("copying", "small", "cannot tell", 0.9, 0.07),
            gate("brackets", "small", "not informative", 0.3, base=0.33, reason="brackets: the base guesses"),
            gate("needle-32768", "small", "skipped", reason="needle at 32,768 tokens: skipped, too long"),
            gate("needle-1024", "large", "regression", 0.41, 0.56, reason=LOST),
            gate("copying", "large", "regression", reason="copying: numbers are not finite"),
            gate("brackets", "large", "not informative", 0.3, base=0.33, reason="brackets: the base guesses"),
            gate("needle-32768", "large", "skipped", reason="needle at 32,768 tokens: skipped, too long"),
        ],
    )
    return replace(made, **fields)


CLIFF = CliffRow("attention", 12, 4, 5, LOST, (6, 3, 4, 5), (4, 6), "cliffs/attention-4.json", (1, 2, 7, 9), ())


def test_a_run_without_gates_has_no_such_section() -> None:
    assert gates_sections(results(verdicts=[], gates=[])) == []


def test_the_table_has_a_row_for_each_variant_and_a_column_for_each_gate_that_says_something() -> None:
    (section,) = gates_sections(results())
    (table,) = (block for block in section.blocks if hasattr(block, "columns"))
    assert [column.heading for column in table.columns] == ["variant", "needle at 1024", "copying"]
    base, small, large = table.rows
    assert [cell.text for cell in base] == ["base", "0.97", "0.97"]
    assert [(cell.text, cell.badge) for cell in small] == [("small", "accept"), ("0.97", ""), ("0.90", "open")]
    assert [(cell.text, cell.badge) for cell in large] == [
        *(("large", "regression"), ("0.41", "regression"), ("\u2013", "regression"))
    ]
    assert small[1].notes == ("0.00 (\u22120.10 to +0.10)",)
    assert large[1].notes == ("\u22120.56 (\u22120.66 to \u22120.46)",)
    assert large[2].tooltip == "copying: numbers are not finite"


def test_a_bound_beside_zero_shows_on_which_side_it_is() -> None:
    close = replace(gate("copying", "small", "regression", 0.8, 0.1), low=0.0004)
    (section,) = gates_sections(results(gates=[close], verdicts=results().verdicts[:1]))
    assert section.blocks[1].rows[1][1].notes == ("\u22120.10 (\u22120.20 to \u22120.0004)",)


@pytest.mark.parametrize("render", [lambda made: Page(render_html(made)).text, render_markdown])
def test_page_and_text_say_who_is_stopped_and_what_was_not_asked(render) -> None:
    text = render(results(cliffs=[CLIFF])).replace("&gt;", ">")
    assert f"large: {LOST}" in text
    assert "needle at 32,768 tokens: skipped, too long" in text
    assert "brackets: the base guesses" in text
    assert "cliffs/attention-4.json" in text
    assert f"5: {LOST}" in text


def test_a_cliff_counts_its_evaluations_and_names_its_layers() -> None:
    (section,) = gates_sections(results(verdicts=[], gates=[], cliffs=[CLIFF]))
    cells = section.blocks[-1].rows[0]
    assert [cell.text for cell in cells[:5]] == ["attention", "4", "12", "4", "attn 1-2,7,9"]
    assert cells[3].notes == ("6, 3, 4, 5", "2 plans of the run")
    none = replace(CLIFF, largest=12, fails=None, reason="", known=())
    (section,) = gates_sections(results(verdicts=[], gates=[], cliffs=[none]))
    assert section.blocks[-1].rows[0][-1].text == "there is none"


def test_tables_have_what_the_section_shows() -> None:
    made = results(cliffs=[CLIFF])
    assert topic_table("verdicts", made)["outcome"].to_pylist() == ["accept", "regression"]
    assert topic_table("gates", made)["loss"].to_pylist()[:3] == [0.0, 0.07, None]
    assert topic_table("cliffs", made)["asked"].to_pylist() == [[6, 3, 4, 5]]


def test_a_verdict_on_no_variant_of_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"verdicts of unknown variants: \['other'\]"):
        results(verdicts=[VerdictRow("other", "accept", "", 0.1, 0.95)])
