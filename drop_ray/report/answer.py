"""The report's first line: how much can be dropped from this model without a loss that the evaluation can see.

The answer is the variant with the most sub-layers dropped (a block counts two) among those whose average is at most
one standard error of the base's average below it; ties go to more parameters saved, then to the earlier one. Its
speedup is said too where it was measured, and decides nothing. Quantized variants do not compete: what they lose is not
lost by dropping.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report.formatting import count, dropped_layers, estimate, number, share, signed
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow, VariantRow
from drop_ray.report.serving import ratio_of, references
from drop_ray.report.statistics import Standing, averaged_tasks, standings, without_number

CRITERION = "one standard error of the base"


@dataclass(frozen=True)
class Answer:
    """What is said first."""

    sentence: str
    """The answer, or why there is none."""
    evidence: tuple[str, ...] = ()
    """The sentences that follow the first."""
    standing: Standing | None = None
    """The winner's, if there is one."""
    speedup: ServingRow | None = None
    """The winner's in the first workload that it was measured in, if any."""

    @property
    def winner(self) -> str | None:
        return self.standing.variant.name if self.standing else None


def find_answer(results: Results) -> Answer:
    """The answer, or a plain statement of why there is none; then the tasks of which there is no number."""
    results = results.unquantized()
    answer = _with_verdict(results, _find(results))
    lost = [f"{task} on {', '.join(variants)}" for task, variants in without_number(results).items()]
    if not lost:
        return answer
    said = f"{answer.sentence} There is no number of {'; of '.join(lost)}: it is left out there."
    return replace(answer, sentence=said)


def _with_verdict(results: Results, answer: Answer) -> Answer:
    """What the damage gates say of the winner: beside its name if they stop it."""
    verdict = next((row for row in results.verdicts if row.variant == answer.winner), None)
    if verdict is None:
        return answer
    evidence = (*answer.evidence, f"The damage gates say {verdict.outcome}: {verdict.reason}.")
    if verdict.outcome != "regression":
        return replace(answer, evidence=evidence)
    said = f"{answer.sentence} But it is a regression by the damage gates, which its tasks do not see."
    return replace(answer, sentence=said, evidence=evidence)


def _find(results: Results) -> Answer:
    if len(results.variants) < 2:
        return Answer("This run made no drop plans, so there is nothing to compare.")
    if not results.evaluations:
        return Answer("Nothing was evaluated, so no variant can be said to be as good as the base.")
    base, *others = standings(results)
    if base.average is None:
        return Answer(_why_no_base_average(results))
    if base.average.stderr is None or not math.isfinite(base.average.value + base.average.stderr):
        return Answer(
            "The base's average has no usable standard error, so no variant can be said to be as good as the base.",
            (f"The base averages {estimate(base.average.value, base.average.stderr)}.",),
        )
    compared = [row for row in others if row.average is not None and row.variant.sublayers_dropped]
    if not compared:
        return Answer("No variant has results on all of the base's tasks, so none can be compared with it.")
    within = [row for row in compared if row.within_one_stderr]
    if not within:
        return _nothing_qualifies(results, base.average, compared)
    winner = max(within, key=lambda row: (row.variant.sublayers_dropped, row.variant.parameters_saved))
    rows = (reference.rows.get(winner.variant.name) for reference in references(results))
    speedup = next((row for row in rows if row), None)
    sentence = _sentence(winner.variant, results.run.num_layers, speedup)
    return Answer(sentence, _evidence(winner, compared), winner, speedup)


def is_baseline(variant: VariantRow) -> bool:
    """Whether its strategy ignores or inverts the scores on purpose, to be compared with."""
    return variant.strategy.startswith(("random", "reverse"))


def _sentence(variant: VariantRow, num_layers: int, speedup: ServingRow | None) -> str:
    parameters = share(variant.parameters_saved, variant.parameters)
    kv_cache = share(variant.kv_bytes_saved_per_token, variant.kv_bytes_per_token)
    drops = (
        f"{variant.name} is the largest variant within {CRITERION}: it drops {variant.sublayers_dropped} of the "
        f"{2 * num_layers} attention layers and MLPs ({dropped_layers(variant.drop_attn, variant.drop_mlp)})"
    )
    saves = f"saves {parameters} of the parameters and {kv_cache} of the KV cache"
    return f"{drops}, {saves}, and {_speed(speedup)}." if speedup else f"{drops} and {saves}."


def _speed(row: ServingRow) -> str:
    interval = f"95 % interval {row.low:.3f} to {row.high:.3f}"
    where = f"({interval}; workload {row.workload}, batch {row.batch_size})"
    if ratio_of(row).contains_one:
        return f"generates as fast as the base, as far as can be told {where}"
    return f"generates {row.ratio:.3f} times the base's tokens per second {where}"


def _evidence(winner: Standing, compared: Sequence[Standing]) -> tuple[str, ...]:
    tasks, reached, of_base = winner.tasks, winner.average, winner.base_average
    assert reached is not None, "a winner was compared"
    assert of_base is not None, "and the base on the same tasks"
    sentences = [
        f"Averaged over {count(len(tasks), 'task')} ({', '.join(tasks)}) it reaches "
        f"{estimate(reached.value, reached.stderr)}, the base {estimate(of_base.value, of_base.stderr)}."
    ]
    paired = winner.paired
    if paired is None:
        sentences.append("There is no paired difference: the two have no documents in common on some task.")
    else:
        sentences.append(
            f"Paired by document, the difference to the base is {signed(paired.value, paired.stderr)} "
            f"({count(paired.num_documents, 'document')})."
        )
        if paired.stderr is not None and paired.value < -2 * paired.stderr:
            sentences.append("That is more than two of its standard errors below zero: a small loss, but a real one.")
    qualifying = sum(row.within_one_stderr for row in compared)
    sentences.append(f"Variants that qualify: {qualifying} of {len(compared)} evaluated; this is the largest.")
    if is_baseline(winner.variant):
        sentences.append(
            f"It is a baseline ({winner.variant.strategy}), not one that follows the scores: on this evaluation "
            "the scores were not needed to find it."
        )
    return tuple(sentences)


def _nothing_qualifies(results: Results, of_base: Estimate, compared: Sequence[Standing]) -> Answer:
    tasks = count(len(averaged_tasks(results)), "task")
    evidence = [f"The base averages {estimate(of_base.value, of_base.stderr)} over {tasks}."]
    value, closest = max(((row.average.value, row) for row in compared if row.average), key=lambda pair: pair[0])
    evidence.append(f"The closest variant is {closest.variant.name}, with {number(value)}.")
    variants = count(len(compared), "variant")
    return Answer(f"No evaluated variant stays within {CRITERION} ({variants} compared).", tuple(evidence))


def _why_no_base_average(results: Results) -> str:
    base = results.variants[0].name
    if not any(row.variant == base for row in results.evaluations):
        return "The base was not evaluated, so no variant can be said to be as good as the base."
    if base in itertools.chain(*without_number(results).values()):
        return "The base has no number on any task, so no variant can be said to be as good as the base."
    return "No evaluated task has a primary metric where higher is better, so there is no average to compare."
