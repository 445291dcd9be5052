"""The report's first line: which acceptable variants it names, and what is said when it names none."""

import math
from dataclasses import replace

import pytest
from judged_results import BASE, RUN, judged, variant

from drop_ray.config import AcceptSpec
from drop_ray.report.answer import find_answer
from drop_ray.report.deploying import commands
from drop_ray.report.gate_rows import VerdictRow
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow, ServingRow

NOTHING, LITTLE, MUCH = (0, 0, 1000), (2, 1, 1000), (100, 0, 1000)
SMALL, LARGE = variant("small", (1,)), variant("large", (1, 2, 3))
AWQ = variant("small-awq", (1,), quantized="small")


def scored(variant: str, value: float, stderr: float | None = 0.05, task: str = "a") -> EvaluationRow:
    return EvaluationRow(variant, task, "acc", value, stderr, True, 4, None, True)


def measured(name: str, ratio: float, spread: float = 0.01, predicted: float | None = 1.2, control: bool = False):
    numbers = (1.0, ratio, ratio, ratio - spread, ratio + spread, 5, predicted)
    place = (name, "8+8", 8, 8, "vllm", "resident", control, "equal_batch", 1, 1, "output_tokens_per_s")
    return ServingRow(*place, *numbers)


def test_the_safest_and_the_smallest_are_named_with_what_is_left() -> None:
    found = find_answer(judged([SMALL, LARGE], {("small", "t"): NOTHING, ("large", "t"): LITTLE}))
    assert found.sentence == (
        "small is the safest variant that loses at most 1 point of the average (95 % confidence): 95.0 % of the base's "
        "bytes and 75.0 % of its KV cache. large is the smallest: 85.0 % of the base's bytes and 25.0 % of its KV "
        "cache."
    )
    assert found.evidence[0] == (
        "Variants: 2 acceptable, 0 not, 0 of which it cannot be told; from 1 task (t) with 1,000 documents."
    )
    assert found.names == {"small", "large"}
    assert found.smallest == LARGE


def test_one_that_is_both_is_named_once_and_one_alone_is_the_only_one() -> None:
    both = find_answer(judged([SMALL, LARGE], {("small", "t"): LITTLE, ("large", "t"): NOTHING}))
    assert both.sentence.startswith("large is the safest and smallest variant that loses")
    assert [one.roles for one in both.named] == [("safest", "smallest")]
    alone = find_answer(judged([SMALL, LARGE], {("small", "t"): LITTLE, ("large", "t"): MUCH}))
    assert alone.sentence.startswith("small is the only variant that loses")


def test_quantized_variants_compete() -> None:
    flips = {("small", "t"): NOTHING, ("large", "t"): NOTHING, ("small-awq", "t"): LITTLE}
    found = find_answer(judged([SMALL, LARGE, AWQ], flips))
    assert [(one.variant.name, one.roles) for one in found.named] == [
        ("small", ("safest",)),
        ("small-awq", ("smallest",)),
    ]
    assert "small-awq is the smallest: 23.8 % of the base's bytes and 75.0 % of its KV cache." in found.sentence


def test_the_fastest_is_the_largest_speedup_that_is_surely_one() -> None:
    flips = {("small", "t"): NOTHING, ("large", "t"): LITTLE, ("small-awq", "t"): LITTLE}
    results = judged([SMALL, LARGE, AWQ], flips)
    rows = [measured("small", 1.1), measured("large", 1.2), measured("small-awq", 1.3, spread=0.4)]
    found = find_answer(replace(results, serving=rows))
    assert [(one.variant.name, one.roles) for one in found.named] == [
        *(("small", ("safest",)), ("small-awq", ("smallest",)), ("large", ("fastest",))),
    ]
    assert "large is the fastest: 85.0 % of the base's bytes, 25.0 % of its KV cache, 1.200 times its" in found.sentence
    assert "75.0 % of its KV cache, as fast as it, as far as can be told." in found.sentence


def test_speeds_that_cannot_be_right_are_said_with_the_name() -> None:
    results = judged([SMALL], {("small", "t"): NOTHING})
    rows = [measured("base", 1.3, control=True), measured("small", 5.4, predicted=1.0)]
    assert find_answer(replace(results, serving=rows)).sentence.endswith(
        "5.400 times its tokens per second, but its speed is far beyond the roofline, which predicts 1.000 and the "
        "base against itself was measured 1.300 times as fast."
    )
    # Another one beyond it says nothing new.
    both = judged([SMALL, LARGE], {("small", "t"): NOTHING, ("large", "t"): MUCH})
    assert find_answer(replace(both, serving=[*rows, measured("large", 6.0, predicted=1.0)])).sentence.endswith(
        "predicts 1.000 and the base against itself was measured 1.300 times as fast."
    )
    fine = [measured("base", 1.0, control=True), measured("small", 1.4, predicted=1.2)]
    assert "but" not in find_answer(replace(results, serving=fine)).sentence


def test_speeds_that_cannot_be_right_reach_the_first_line_whatever_they_are_of() -> None:
    results = judged([SMALL, LARGE, AWQ], {("small", "t"): NOTHING, ("large", "t"): MUCH, ("small-awq", "t"): MUCH})
    rows = [measured("small", 1.1), measured("large", 5.4, predicted=1.0), measured("small-awq", 3.0, predicted=1.0)]
    elsewhere = replace(measured("base", 0.8, control=True), batch_size=4)
    sentence = find_answer(replace(results, serving=[elsewhere, *rows])).sentence
    assert sentence.endswith(
        "1.100 times its tokens per second. The base against itself was measured 0.800 times as fast (8+8, batch 4), "
        "which must be 1: smaller gains there are none. large was measured 5.400 times as fast as the base (8+8, batch "
        "1), where the roofline predicts 1.000: that speed cannot be right, nor can that of 1 other variant."
    )
    none_acceptable = judged([LARGE], {("large", "t"): MUCH})
    assert "cannot be right." in find_answer(replace(none_acceptable, serving=rows[1:2])).sentence


def test_a_control_near_to_one_and_a_speed_near_to_the_roofline_are_no_failures() -> None:
    results = judged([SMALL], {("small", "t"): NOTHING})
    near = [measured("base", 1.008, spread=0.001, control=True), measured("small", 1.7, predicted=1.2)]
    assert find_answer(replace(results, serving=near)).sentence.endswith("1.700 times its tokens per second.")
    latency = replace(measured("base", 2.0, control=True), metric="ttft_p50_s")
    assert "against itself" not in find_answer(replace(results, serving=[latency, near[1]])).sentence


def test_a_task_that_loses_too_much_is_said_and_makes_no_safest() -> None:
    flips = {
        **{("small", "good"): LITTLE, ("small", "bad"): LITTLE},
        **{("large", "good"): (0, 150, 1000), ("large", "bad"): (100, 0, 1000)},
    }
    found = find_answer(judged([SMALL, LARGE], flips))
    assert found.sentence.startswith("small is the safest")
    assert found.sentence.endswith("of its KV cache, but bad falls from 0.500 to 0.400.")
    only = find_answer(judged([LARGE], {key: value for key, value in flips.items() if key[0] == "large"}))
    assert [one.roles for one in only.named] == [("smallest",)]


def test_a_regression_by_the_damage_gates_is_said_and_makes_no_safest() -> None:
    results = judged([SMALL, LARGE], {("small", "t"): LITTLE, ("large", "t"): NOTHING})
    verdicts = [VerdictRow("small", "accept", "fine", 0.1, 0.95), VerdictRow("large", "regression", "lost", 0.1, 0.95)]
    found = find_answer(replace(results, verdicts=verdicts))
    assert found.sentence.startswith("small is the safest")
    assert found.sentence.endswith(", but it is a regression by the damage gates.")
    assert found.evidence[-2:] == (
        *("The damage gates say accept of small: fine.", "The damage gates say regression of large: lost."),
    )


def test_a_baseline_is_named_as_one() -> None:
    random = variant("other-2", (1, 2), strategy="random-attention")
    found = find_answer(judged([SMALL, random], {("small", "t"): MUCH, ("other-2", "t"): NOTHING}))
    assert found.sentence.startswith("other-2 is the only")
    assert "other-2 is a baseline (random-attention)" in found.evidence[-1]


def test_where_it_cannot_be_told_it_is_said_how_many_documents_would_tell() -> None:
    flips = {("small", "t"): (0, 0, 100), ("large", "t"): (2, 2, 100), ("small", "u"): (0, 0, 100)}
    results = judged([SMALL, LARGE], {**flips, ("large", "u"): (0, 0, 100)})
    found = find_answer(results)
    small, large = (row.needed for row in found.rows)
    assert found.sentence == (
        "Cannot tell whether any variant loses at most 1 point of the average (95 % confidence): about "
        f"{small} documents a task are needed for small, {large:,} for large."
    )
    assert small < 300 < large
    assert found.named == ()


def test_where_none_looks_acceptable_the_nearest_is_named() -> None:
    found = find_answer(judged([SMALL, LARGE], {("small", "t"): (5, 2, 100), ("large", "t"): (60, 0, 100)}))
    assert found.sentence.startswith("Cannot tell whether any variant loses")
    assert "none looks as if, and the nearest is small, which loses 3.00 points (\u22121." in found.sentence


def test_where_all_lose_too_much_the_nearest_is_named() -> None:
    found = find_answer(judged([SMALL, LARGE], {("small", "t"): (50, 0, 500), ("large", "t"): (60, 0, 500)}))
    assert found.sentence.startswith(
        "No variant loses at most 1 point of the average (95 % confidence): the nearest is small, which loses 10.00 "
        "points (8."
    )


def test_the_rule_is_said_as_the_user_states_it() -> None:
    results = judged([SMALL], {("small", "t"): NOTHING})
    found = find_answer(replace(results, accept=AcceptSpec(metric="t", loss="2.5 points", confidence=0.9)))
    assert "that loses at most 2.5 points of t (90 % confidence)" in found.sentence


def test_what_each_task_may_lose_is_part_of_the_rule() -> None:
    flips = {("small", "good"): (0, 150, 1000), ("small", "bad"): (100, 0, 1000)}
    found = find_answer(replace(judged([SMALL], flips), accept=AcceptSpec(each_task="5 points")))
    assert found.named == ()
    assert found.sentence.startswith(
        "No variant loses at most 1 point of the average and 5 points of each task (95 % confidence): the nearest is "
        "small, which loses \u22122.50 points ("
    )
    assert found.sentence.endswith("), and more than 5 points of bad.")


def test_tasks_without_a_number_are_named() -> None:
    results = judged([SMALL, LARGE], {("small", "t"): NOTHING, ("large", "t"): NOTHING})
    rows = [replace(row, value=math.nan) if row.variant == "large" else row for row in results.evaluations]
    found = find_answer(replace(results, evaluations=rows))
    assert found.sentence.startswith("small is the only")
    assert found.sentence.endswith("There is no number of t on large.")


@pytest.mark.parametrize(
    ("evaluations", "sentence"),
    [
        ([], "Nothing was evaluated"),
        ([scored("p", 0.6)], "The base was not evaluated"),
        ([scored("base", 0.6)], "Of no variant it is known what it loses"),
        ([scored("base", 0.6), scored("p", 0.6)], "Of no variant it is known what it loses"),
        ([scored("base", math.nan), scored("p", 0.6)], "The base has no number on any task"),
        (
            [EvaluationRow(name, "wiki", "ppl", 10.0, None, False, 4, None, True) for name in ("base", "p")],
            "No evaluated task has a primary metric where higher is better",
        ),
    ],
)
def test_without_a_comparison_the_reason_is_said(evaluations: list[EvaluationRow], sentence: str) -> None:
    found = find_answer(Results(RUN, [], [BASE, variant("p", (1,))], evaluations, [], []))
    assert found.named == ()
    assert found.sentence.startswith(sentence)


def test_a_rule_about_a_perplexity_says_that_it_is_none() -> None:
    rows = [EvaluationRow(name, "wiki", "ppl", 10.0, None, False, 4, None, True) for name in ("base", "p")]
    made = Results(RUN, [], [BASE, variant("p", (1,))], rows, [], [], accept=AcceptSpec(metric="wiki"))
    assert find_answer(made).sentence.startswith("wiki has no primary metric where higher is better")


def test_a_run_without_variants_says_so() -> None:
    for variants in ([], [BASE], [BASE, variant("empty", ())]):
        found = find_answer(Results(RUN, [], variants, [scored("base", 0.6)] if variants else [], [], []))
        assert found.sentence == "This run made no drop plans, so there is nothing to compare."


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        (SMALL, ["drop-ray export r.yaml --plan small --output small", "drop-ray serve small"]),
        (replace(SMALL, checkpoint="dropped: /c/d, plain: /c/p"), ["drop-ray serve /c/d"]),
        (replace(AWQ, checkpoint="s3://b/awq/"), ["aws s3 sync s3://b/awq/ small-awq", "drop-ray serve small-awq"]),
        (
            variant("small-refit", (1,), changes=("refit",)),
            [
                "drop-ray export r.yaml --set 'export=[small-refit]'  # prints the FOLDER of the checkpoint",
                "drop-ray serve FOLDER",
            ],
        ),
    ],
)
def test_commands_export_load_and_serve(row, lines) -> None:
    found = commands("r", row)
    assert [line for line in found if "drop_ray.load" not in line] == lines
    folder = lines[-1].removeprefix("drop-ray serve ")
    assert found[-2] == f"python -c 'import drop_ray; model = drop_ray.load(\"{folder}\")'"
