"""Drafts in the report: ranking, predicted beside measured, memory, and a failed gate in the first line."""

from dataclasses import replace

import pytest
from serving_results import served_results

from drop_ray.report.answer import find_answer
from drop_ray.report.draft_rows import DraftPlanRow, DraftRow, DraftSpeedup, SamplingRow, draft_predictions
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.sections.drafts import drafts_sections, measured_table
from drop_ray.report.tables import topic_table

FASTER = DraftSpeedup(1.5, 1.4, 1.6, 5, 100.0, 150.0)


def plan(variant, decoding, speedup, cost=0.25):
    reason = "predicted to be fast" if speedup > 1 else "cannot pay: it takes too long"
    return DraftPlanRow(variant, decoding, 4, 96, 0.8, cost, "roofline", 3, 1.0, speedup, speedup > 1, reason)


def draft(variant="attention-4", tokens=3, acceptance=(0.9, 0.75, 0.6), **fields):
    values = {
        "control": False,
        **{"engine": "vllm", "engine_version": "0.32.0", "device": "cpu", "dtype": "float32", "mode": "resident"},
        **{"batch_size": 4, "prompt_tokens": 64, "output_tokens": 64, "prompts": 20, "identical": 20},
        **{"margin": None, "allowed_margin": 0.0, "holds": True, "agreement": 0.8, "steps": 100},
        **{"tokens_per_step": 1 + sum(acceptance), "speedup": FASTER, "decode_speedup": FASTER},
        **{"base_weights_bytes": 2000, "draft_weights_bytes": 500},
        **{"base_kv_bytes_per_token": 40, "draft_kv_bytes_per_token": 20},
        **fields,
    }
    return DraftRow(variant=variant, tokens=tokens, acceptance=acceptance, **values)


CONTROL = draft(
    "base", 0, (), control=True, agreement=None, steps=None, tokens_per_step=None, speedup=replace(FASTER, ratio=1.01)
)
WRONG = draft("block-4", identical=17, margin=0.4, holds=False, speedup=None, decode_speedup=None)
PLANS = [plan("attention-4", "greedy", 1.7), plan("block-4", "greedy", 0.9), plan("attention-4", "sampling", 0.8)]
RESULTS = replace(served_results(), drafts=[CONTROL, draft(), WRONG], draft_plans=PLANS)


def sampling(temperature, **fields):
    values = {"holds": True, "reason": "", "kept": (0.999, 0.998), "smallest_p": 0.2}
    return SamplingRow(
        **{**values, **fields, "temperature": temperature, "tokens": 2, "least_kept": 0.98, "samples": 512},
        tests=12,
        level=0.01,
    )


REFUSED = sampling(1.0, holds=False, reason="of the tokens 4.6 % were kept", kept=(0.046, 0.4), smallest_p=5e-5)


def text_of(results):
    return render_markdown(results) + render_html(results)


def test_predictions_stand_beside_what_was_measured():
    (first, second) = draft_predictions(RESULTS)
    assert (first.agreement, first.first_acceptance, first.acceptance_of_panel) == (0.8, 0.9, 0.8)
    assert first.predicted_tokens_per_step == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    assert first.tokens_per_step == pytest.approx(3.25)
    assert first.predicted_speedup == pytest.approx(2.952 / 1.75)
    assert first.decode_speedup == 1.5
    assert second.decode_speedup is None
    (alone,) = draft_predictions(replace(RESULTS, drafts=[draft()], draft_plans=[]))
    assert (alone.cost, alone.predicted_speedup, alone.acceptance_of_panel) == (None, None, None)


def test_the_section_names_the_fastest_the_control_and_where_no_draft_pays():
    (section,) = drafts_sections(RESULTS)
    text = section.blocks[0].text
    assert "Of 2 measured drafts, 1 left the base's output as it was." in text
    assert "Fastest is attention-4 with 3 drafted tokens: 1.50 times as many output tokens per second." in text
    assert "Control: the base against itself is 1.010 times as fast [1.400, 1.600]." in text
    assert "At batch 4 and 96 tokens of context no variant is predicted to pay as a draft (sampling)." in text
    assert "(greedy)" not in text
    rows = measured_table([draft(), WRONG], list(draft_predictions(RESULTS))).rows
    assert [row[2].text for row in rows] == ["20 of 20", "17 of 20: not the base"]
    assert rows[0][3].text == "0.900 0.750 0.600"
    assert "0.25 roofline" not in text_of(RESULTS).split("## Drafts")[0]


def test_a_draft_that_changed_the_output_stands_in_the_first_line():
    sentence = find_answer(RESULTS).sentence
    expected = (
        "As a draft, block-4 changed the base's own tokens of 3 of 20 prompts with 3 drafted tokens, which must not be."
    )
    assert sentence.endswith(expected)
    assert "As a draft" not in find_answer(replace(RESULTS, drafts=[CONTROL, draft()])).sentence


def test_a_run_without_drafts_has_no_such_section():
    assert drafts_sections(served_results()) == []


def test_only_a_ranking_is_shown_where_nothing_was_measured():
    results = replace(RESULTS, drafts=[])
    assert "Which drafts pay" in text_of(results)
    assert "As measured" not in text_of(results)


def test_the_tables_have_acceptance_by_position_and_both_speedups():
    rows = topic_table("drafts", RESULTS).to_pylist()
    assert rows[1]["acceptance"] == [0.9, 0.75, 0.6]
    assert (rows[1]["speedup_ratio"], rows[2]["speedup_ratio"], rows[2]["holds"]) == (1.5, None, False)
    assert topic_table("draft_plans", RESULTS).num_rows == 3
    assert topic_table("draft_predictions", RESULTS).column("tokens").to_pylist() == [3, 3]


def test_rows_of_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="drafts of unknown variants"):
        replace(RESULTS, drafts=[draft("nobody")])


def test_drafts_that_sample_stand_beside_the_total_variation():
    drawn = draft(temperature=0.8, identical=None, allowed_margin=None, agreement=None)
    results = replace(RESULTS, drafts=[CONTROL, draft(), drawn], sampling=[sampling(0.8), REFUSED])
    greedy, sampled = draft_predictions(results)
    assert (greedy.temperature, sampled.temperature) == (0, 0.8)
    assert (sampled.agreement, sampled.acceptance_of_panel) == (None, 0.8)
    assert sampled.predicted_tokens_per_step == pytest.approx(2.952)
    text = render_markdown(results)
    assert "in distribution" in text
    assert "temperature 0.8" in text


def test_a_refusal_of_sampling_is_said_with_its_figures_and_greedy_results_stay():
    results = replace(RESULTS, sampling=[REFUSED])
    text = render_markdown(results)
    assert "Drafts at temperature 1 are refused: of the tokens 4.6 % were kept." in text
    assert "0.046 0.400" in text
    assert "1.500" in text or "1.50" in text
    (row,) = topic_table("sampling", results).to_pylist()
    assert (row["holds"], row["kept"]) == (False, [0.046, 0.4])
    # A run in which nothing else was measured says it, too.
    assert drafts_sections(replace(results, drafts=[], draft_plans=[]))


def test_a_cache_in_8_bits_is_said():
    assert "Both KV caches are in fp8_e4m3." in render_markdown(
        replace(RESULTS, drafts=[draft(kv_cache_dtype="fp8_e4m3")])
    )
