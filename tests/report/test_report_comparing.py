"""Runs side by side: what is paired, what is not and why, and what is said of it."""

import json
import math
from dataclasses import replace

import pytest

from drop_ray.report.comparing.common import common_tasks, reasons, sides_of
from drop_ray.report.comparing.matching import groups_of, kl_less, mean_difference
from drop_ray.report.comparing.sections import comparison_sections
from drop_ray.report.html import page_of
from drop_ray.report.markdown import text_of
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import ArtifactRow, DocumentRow, EvaluationRow, ScoreRow, VariantRow

TASK = {"name": "quiz", "limit": 4, "num_fewshot": 2, "configs": {"quiz": {"dataset_path": "org/quiz"}}}


def variant(name, strategy="attention", attn=(), changes=()):
    kept = 100 - 10 * len(attn)
    return VariantRow(
        name, strategy, "cosine", len(attn), attn, (), kept, 100 - kept, 8, 0, None, 2 * kept, None, tuple(changes)
    )


BASE = variant("base", "base")


def run_of(
    name="one", values=None, drops=(3,), *, asked=TASK, shots=2, model="m1", config="a: 1\n", task="quiz", **more
):
    """A run of the base and `attention-1`: values by variant, of four documents."""
    values = values or {"base": [1, 1, 1, 0], "attention-1": [1, 0, 1, 0]}
    identity = {"task": asked, "seed": 1, "model": model}
    variants = more.pop("variants", [BASE, variant("attention-1", attn=drops)])
    fields = {
        "run": RunFacts(name, "tiny", model, 4, "float32", "text", "now", {"torch": "2"}, config),
        "scores": [ScoreRow("base", "attention", layer, 1, "cosine", 0.1 * (4 - layer), 0.01) for layer in range(4)],
        "variants": variants,
        "evaluations": [
            EvaluationRow(one, task, "acc", sum(found) / 4, 0.2, True, 4, shots, True) for one, found in values.items()
        ],
        "documents": [
            DocumentRow(one, task, "acc", index, value)
            for one, found in values.items()
            for index, value in enumerate(found)
        ],
        "artifacts": [ArtifactRow("evaluate", "artifacts/e", 1, json.dumps(identity), "now")],
    }
    return Results(**fields | more)


def text_of_runs(*runs):
    return text_of(comparison_sections(sides_of(runs)))


def test_differences_are_paired_by_document():
    other = run_of("two", {"base": [1, 1, 1, 0], "attention-1": [0, 0, 1, 0]})
    one, two = sides_of([run_of(), other])
    tasks = common_tasks([one, two])
    pair = mean_difference(one, "attention-1", two, "attention-1", tasks)
    # Differences are -1, 0, 0, 0: mean -1/4, variance 1/4, error sqrt(1/16).
    assert (pair.value, pair.stderr, pair.num_documents) == (-0.25, 0.25, 4)
    text = text_of_runs(run_of(), other)
    assert "−0.2500 [−0.7400, 0.2400]" in text
    assert "No variant differs from that of one by more than chance, on quiz." in text


def test_what_chance_does_not_explain_is_said_first():
    lost = {"base": [1] * 4, "attention-1": [-1.0, -1.1, -0.9, -1.0]}
    text = text_of_runs(run_of(values={"base": [1] * 4, "attention-1": [1] * 4}), run_of("two", lost, drops=(2,)))
    first = text.split("\n\n")[2]
    assert first.startswith("The average of attention-1 of two is 2.0000 below that of one, which drops other layers")
    assert "on 4 documents." in first


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (run_of("two", asked={**TASK, "limit": 8}), "task.limit 4 -> 8"),
        (run_of("two", shots=5), "2 and 5 shots"),
        (run_of("two", artifacts=[]), "what was asked is not recorded"),
        (run_of("two", task="other"), "one evaluated it, two did not"),
        (
            run_of("two", asked={**TASK, "configs": {"quiz": {"dataset_path": "org/another-quiz-of-a-long-name" * 3}}}),
            "task.configs.quiz.dataset_path differs",
        ),
    ],
)
def test_what_was_not_asked_alike_is_not_compared_and_it_is_said_why(other, why):
    sides = sides_of([run_of(), other])
    assert common_tasks(sides) == []
    assert any(why in reason for reason in reasons(sides))
    text = text_of_runs(run_of(), other)
    assert "quality is not compared" in text
    assert why in text


def test_texts_are_paired_only_for_one_base():
    def with_text(name, model):
        identity = {"name": "wiki", "text": "hash", "num_samples": 2, "seq_len": 8, "model": model}
        return run_of(
            name,
            evaluations=[
                EvaluationRow(one, "wiki", "token_perplexity", 3.0, None, False, 2, None, True)
                for one in ("base", "attention-1")
            ],
            documents=[DocumentRow("base", "wiki", "nll", index, 1.0 + index) for index in range(2)],
            artifacts=[ArtifactRow("perplexity", "artifacts/p", 1, json.dumps(identity), "now")],
        )

    one, same, other = with_text("one", "m1"), with_text("two", "m1"), with_text("three", "m2")
    assert [task.task for task in common_tasks(sides_of([one, same]))] == ["wiki"]
    assert common_tasks(sides_of([one, other])) == []
    assert "wiki (token_perplexity): one and three did not ask the same: other base models." in text_of_runs(one, other)
    assert "0.0000 [0.0000, 0.0000]" in text_of_runs(one, same)


def test_one_name_with_other_drops_is_marked_and_equal_drops_of_other_names_stand_together():
    mine = run_of(variants=[BASE, variant("attention-1", attn=(3,)), variant("mine", "file", (1, 2))])
    theirs = run_of("two", variants=[BASE, variant("attention-1", attn=(2,)), variant("theirs", "file", (2, 1))])
    groups = {group.name: group for group in groups_of(sides_of([mine, theirs]))}
    assert [*groups] == ["base", "attention-1", "mine"]
    assert [member.name for member in groups["mine"].members] == ["mine", "theirs"]
    assert groups["mine"].drops_alike
    assert not groups["attention-1"].drops_alike
    text = text_of_runs(mine, theirs)
    assert "attn 2 (differs)" in text
    assert "mine called theirs" in text
    assert "2 variants are in more than one of 2 runs, of which 1 drops the same layers in each." in text


def test_changes_are_part_of_what_is_equal():
    refitted = run_of("two", variants=[BASE, variant("other", "file", (3,), ["refit"])], evaluations=[], documents=[])
    names = [group.name for group in groups_of(sides_of([run_of(), refitted]))]
    assert names == ["base", "attention-1", "other"]
    text = text_of_runs(run_of(), refitted)
    assert "Only one has attention-1." in text
    assert "Only two has other." in text


def test_bases_of_other_names_are_one_group():
    renamed = run_of("two", {"full": [1] * 4}, variants=[replace(BASE, name="full")])
    assert next(group.name for group in groups_of(sides_of([run_of(), renamed]))) == "base"


def test_three_runs_are_each_compared_with_the_first_and_equal_names_told_apart():
    runs = [run_of(), run_of(), run_of("three", asked={**TASK, "limit": 8})]
    assert [side.label for side in sides_of(runs)] == ["one (1)", "one (2)", "three"]
    assert common_tasks(sides_of(runs)) == []
    assert [task.task for task in common_tasks(sides_of(runs[:2]))] == ["quiz"]


def test_kl_is_paired_by_sample():
    one, two = sides_of([run_of(), run_of("two")])
    one.__dict__["kl"] = {"attention-1": {0: 0.1, 1: 0.2}}
    two.__dict__["kl"] = {"attention-1": {0: 0.2, 1: 0.4}}
    pair = kl_less(one, "attention-1", two, "attention-1")
    assert math.isclose(pair.value, 0.15)
    assert math.isclose(pair.stderr, 0.05)


def test_facts_and_settings_that_differ_are_marked():
    other = run_of("two", config="a: 2\nb: [1, 2]\n")
    other = replace(other, run=replace(other.run, calibration="<b>other|text</b>", versions={"torch": "3"}))
    text = text_of_runs(run_of(), other)
    assert "calibration (differs)" in text
    assert "version of torch (differs)" in text
    assert "dtype (differs)" not in text
    assert "Configuration, where it differs (2)" in text
    page = page_of(comparison_sections(sides_of([run_of(), other])), "title")
    assert "<b>other" not in page
    assert "&lt;b&gt;other|text" in page


def test_layers_are_ranked_beside_each_other():
    turned = [replace(row, mean=1 - row.mean) for row in run_of().scores]
    text = text_of_runs(run_of(), run_of("two", scores=turned))
    assert "-1.00" in text
    fewer = text_of_runs(run_of(), run_of("two", scores=turned[:2]))
    assert "rank correlation" not in fewer
