"""What a run took: the section says it in the units of the machine, and only what was measured."""

from dataclasses import replace

import pytest
from test_report_render import example

from drop_ray.report.costs import CostRow, total_costs
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.sections.costs import costs_sections

SCORE = CostRow("score", 16, 0, 0, 3600.0, 3600.0, 0.0, 0.0)
EVALUATE = CostRow("evaluate", 27, 7, 0, 7200.0, 28_800.0, 1800.0, 7200.0, 40_000.0, 1_000_000, 250_000)


def markdown(*rows):
    text = render_markdown(replace(example(), costs=rows))
    return text.partition("## What it took")[2].partition("\n## ")[0]


def test_all_stages_together_are_their_sums():
    total = total_costs([SCORE, EVALUATE])
    assert (total.units, total.reused_units, total.worker_seconds) == (43, 7, 10_800.0)
    assert (total.gpu_seconds, total.measured_gpu_seconds, total.saved_tokens) == (32_400.0, 39_600.0, 750_000)
    assert total.expected_gpu_seconds == 40_000.0
    assert total_costs([SCORE]).expected_gpu_seconds is None


def test_gpu_hours_stand_beside_what_was_expected_and_what_reuse_saved():
    text = markdown(SCORE, EVALUATE)
    assert "- GPU-hours: 9.0 (36 units)" in text
    # Of the stage that was forecast: 36000 seconds, 40000 expected.
    assert "- Measured over expected: 0.900 (of 11 GPU-hours)" in text
    assert "- GPU-hours not spent: 2.0 (7 units of other runs)" in text
    assert "- Tokens not computed: 75.0 % (of 1 M asked)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| evaluate")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["evaluate", "27", "7 in 30 min 0 s", "2 h 0 min", "8.0", "11", "1 M", "250 K 75.0 % saved"]


def test_a_run_on_cpus_has_times_and_no_gpu_hours():
    text = markdown(replace(SCORE, gpu_seconds=0.0))
    assert "- Time of workers: 1 h 0 min (16 units)" in text
    assert "GPU" not in text
    assert "tokens" not in text
    assert "in all" not in text  # one stage is all there is


def test_a_stage_that_another_run_did_has_no_time_here():
    text = markdown(SCORE, replace(EVALUATE, reused_units=27, worker_seconds=0.0, gpu_seconds=0.0))
    (line,) = [line for line in text.splitlines() if line.startswith("| evaluate")]
    assert [cell.strip() for cell in line.strip("|").split("|")][3:5] == ["\u2013", "\u2013"]


def test_units_of_an_earlier_version_are_said_to_be_unmeasured():
    text = markdown(SCORE, replace(EVALUATE, unmeasured_units=3))
    assert "Of 3 units no time was recorded." in text
    assert "Measured over expected" not in text  # it would be too good


@pytest.mark.parametrize("rows", [[], [CostRow("score", 4, 0, 4, 0.0, 0.0, 0.0, 0.0)]])
def test_nothing_that_was_measured_is_no_section(rows):
    assert costs_sections(replace(example(), costs=rows)) == []


def test_the_page_has_the_section_before_what_was_run():
    page = render_html(replace(example(), costs=[SCORE, EVALUATE]))
    assert 0 < page.index("What it took") < page.index("How it was made")
