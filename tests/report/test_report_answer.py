"""The report's first line: which variant wins, and what is said when none can."""

import math

import pytest

from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, VariantRow

RUN = RunFacts("r", "m", "id", 4, "float32", "c", "now", {}, "")
BASE = VariantRow("base", "base", None, 0, (), (), 1000, 0, 80, 0, None, 2_000)


def variant(name: str, attn: tuple[int, ...], mlp: tuple[int, ...] = (), strategy: str = "attention") -> VariantRow:
    saved = 50 * len(attn) + 100 * len(mlp)
    num_dropped = len({*attn, *mlp})
    return VariantRow(
        name,
        strategy,
        "cosine",
        num_dropped,
        attn,
        mlp,
        1000 - saved,
        saved,
        80 - 20 * len(attn),
        20 * len(attn),
        None,
        2_000,
    )


def scored(variant: str, value: float, stderr: float | None = 0.05, task: str = "a") -> EvaluationRow:
    return EvaluationRow(variant, task, "acc", value, stderr, True, 4, None, True)


def answer(
    variants: list[VariantRow], evaluations: list[EvaluationRow], documents: list[DocumentRow] | None = None
) -> Answer:
    results = Results(RUN, [], variants, evaluations, documents or [], [])
    return find_answer(results)


def test_the_largest_variant_within_one_error_wins_and_says_what_it_saves() -> None:
    variants = [BASE, variant("small", (1,)), variant("large", (1, 2, 3)), variant("too-large", (0, 1, 2, 3))]
    found = answer(
        variants, [scored("base", 0.6), scored("small", 0.61), scored("large", 0.56), scored("too-large", 0.5)]
    )
    assert found.sentence == (
        "large is the largest variant within one standard error of the base: it drops 3 of the 8 attention layers and "
        "MLPs (attn 1-3) and saves 15.0 % of the parameters and 75.0 % of the KV cache."
    )
    assert "0.5600 \u00b1 0.0500, the base 0.6000 \u00b1 0.0500" in found.evidence[0]
    assert any("2 of 3 evaluated" in sentence for sentence in found.evidence)


def test_a_block_counts_two_sublayers() -> None:
    variants = [BASE, variant("mlp-3", (), (0, 1, 2), "mlp"), variant("block-2", (1, 2), (1, 2), "block")]
    found = answer(variants, [scored(row.name, 0.6) for row in variants])
    assert found.standing is not None
    assert found.standing.variant.name == "block-2"
    assert "block 1-2" in found.sentence


def test_ties_go_to_more_parameters_saved_then_to_the_earlier_plan() -> None:
    variants = [BASE, variant("attention-1", (1,)), variant("mlp-1", (), (2,)), variant("mlp-1-again", (), (2,))]
    found = answer(variants, [scored(row.name, 0.6) for row in variants])
    assert found.standing is not None
    assert found.standing.variant.name == "mlp-1"


@pytest.mark.parametrize("strategy", ["random-attention", "reverse-attention"])
def test_a_winning_baseline_is_named_as_one(strategy: str) -> None:
    variants = [BASE, variant("attention-1", (1,)), variant("other-2", (1, 2), strategy=strategy)]
    found = answer(variants, [scored(row.name, 0.6) for row in variants])
    assert found.sentence.startswith("other-2 is")
    assert f"It is a baseline ({strategy})" in found.evidence[-1]


def test_a_small_loss_that_pairing_resolves_is_called_real() -> None:
    variants = [BASE, variant("p", (1,))]
    losing = [float(index >= 10) for index in range(100)]
    documents = [
        *(DocumentRow("base", "a", "acc", index, 1.0) for index in range(100)),
        *(DocumentRow("p", "a", "acc", index, value) for index, value in enumerate(losing)),
    ]
    found = answer(variants, [scored("base", 1.0, 0.2), scored("p", 0.9)], documents)
    assert any("\u22120.1000 \u00b1 0.0302 (100 documents)" in sentence for sentence in found.evidence)
    assert any("a real one" in sentence for sentence in found.evidence)


def test_missing_documents_are_said() -> None:
    found = answer([BASE, variant("p", (1,))], [scored("base", 0.6), scored("p", 0.6)])
    assert any("no paired difference" in sentence for sentence in found.evidence)


def test_nothing_qualifies_names_the_closest() -> None:
    variants = [BASE, variant("p", (1,)), variant("q", (2,)), variant("broken", (3,))]
    found = answer(variants, [scored("base", 0.9), scored("p", 0.1), scored("q", 0.7), scored("broken", math.nan)])
    assert found.standing is None
    assert found.sentence == (
        "No evaluated variant stays within one standard error of the base (2 variants compared). There is no number of "
        "a on broken: it is left out there."
    )
    assert found.evidence[-1] == "The closest variant is q, with 0.7000."


def test_a_variant_without_any_number_is_not_compared() -> None:
    found = answer([BASE, variant("p", (1,))], [scored("base", 0.9), scored("p", math.nan)])
    assert found.sentence == (
        "No variant has results on all of the base's tasks, so none can be compared with it. There is no number of a "
        "on p: it is left out there."
    )


def test_a_variant_without_a_number_on_one_task_is_compared_on_the_others() -> None:
    rows = [scored("base", 0.6), scored("p", math.nan), scored("base", 0.8, task="b"), scored("p", 0.8, task="b")]
    found = answer(
        [BASE, variant("p", (1,)), variant("q", (1, 2))], [*rows, scored("q", 0.6), scored("q", 0, task="b")]
    )
    assert found.winner == "p"
    assert (
        found.evidence[0] == "Averaged over 1 task (b) it reaches 0.8000 \u00b1 0.0500, the base 0.8000 \u00b1 0.0500."
    )
    assert found.sentence.endswith("There is no number of a on p: it is left out there.")


def test_a_task_without_a_number_of_the_base_counts_for_nobody() -> None:
    rows = [scored("base", math.inf), scored("p", 0.1), scored("base", 0.8, task="b"), scored("p", 0.8, task="b")]
    found = answer([BASE, variant("p", (1,))], rows)
    assert found.winner == "p"
    assert "Averaged over 1 task (b)" in found.evidence[0]


@pytest.mark.parametrize(
    ("evaluations", "sentence"),
    [
        ([], "Nothing was evaluated"),
        ([scored("p", 0.6)], "The base was not evaluated"),
        ([scored("base", 0.6)], "No variant has results on all"),
        ([scored("base", 0.6), scored("base", 0.5, task="b"), scored("p", 0.6)], "No variant has results on all"),
        ([scored("base", 0.6, None), scored("p", 0.6)], "The base's average has no usable standard error"),
        ([scored("base", math.nan), scored("p", 0.6)], "The base has no number on any task"),
    ],
)
def test_without_a_comparison_the_reason_is_said(evaluations: list[EvaluationRow], sentence: str) -> None:
    found = answer([BASE, variant("p", (1,))], evaluations)
    assert found.standing is None
    assert found.sentence.startswith(sentence)


def test_perplexity_alone_gives_no_answer() -> None:
    rows = [EvaluationRow(name, "wiki", "ppl", 10.0, None, False, 4, None, True) for name in ("base", "p")]
    assert answer([BASE, variant("p", (1,))], rows).sentence.startswith("No evaluated task has a primary metric")


def test_infinite_perplexity_does_not_disturb_the_average() -> None:
    wiki = [EvaluationRow(name, "wiki", "ppl", math.inf, None, False, 4, None, True) for name in ("base", "p")]
    found = answer([BASE, variant("p", (1,))], [scored("base", 0.6), scored("p", 0.6), *wiki])
    assert found.sentence.startswith("p is the largest variant")


def test_a_run_without_variants_says_so() -> None:
    for variants, rows in (([], []), ([BASE], [scored("base", 0.6)])):
        assert answer(variants, rows).sentence == "This run made no drop plans, so there is nothing to compare."


def test_a_variant_that_drops_nothing_is_no_answer() -> None:
    found = answer([BASE, variant("empty", ())], [scored("base", 0.6), scored("empty", 0.6)])
    assert found.standing is None
