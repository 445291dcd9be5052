"""The report's first line: how much can be dropped from this model without a loss that the evaluation can see.

In: `Results` and the plans' standings. Out: one sentence and the evidence for it, in plain text for both renderers.
The answer is the plan with the most sub-layers dropped (a block counts two) among those whose average is at most one
standard error of the base's average below it; ties go to more parameters saved, then to the earlier plan. Its
speedup is said too where it was measured, and decides nothing. Quantized forms of plans do not compete: what they
lose is not lost by dropping.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.report.formatting import count, dropped_layers, estimate, number, percent, signed
from drop_ray.report.results import PlanRow, Results, ServingRow
from drop_ray.report.serving import ratio_of, references
from drop_ray.report.statistics import Standing, averaged_tasks

CRITERION = "one standard error of the base"


@dataclass(frozen=True)
class Answer:
    """`standing` is the winner's, None when there is none; `evidence` are the sentences that follow the first.

    speedup: the winner's in the first workload that it was measured in, if any.
    """

    sentence: str
    evidence: tuple[str, ...] = ()
    standing: Standing | None = None
    speedup: ServingRow | None = None


def find_answer(results: Results, standings: Sequence[Standing]) -> Answer:
    """The answer, or a plain statement of why there is none."""
    results = results.unquantized()
    standings = [row for row in standings if row.plan.quantization is None]
    if not results.plans:
        return Answer("This run made no drop plans, so there is nothing to compare.")
    if not results.evaluations:
        return Answer("Nothing was evaluated, so no plan can be said to be as good as the base.")
    base = standings[0]
    if base.average is None:
        return Answer(_why_no_base_average(results))
    if base.average.stderr is None or not math.isfinite(base.average.value + base.average.stderr):
        return Answer(
            "The base's average has no usable standard error, so no plan can be said to be as good as the base.",
            (f"The base averages {estimate(base.average.value, base.average.stderr)}.",),
        )
    compared = [row for row in standings[1:] if row.average is not None and row.plan.sublayers_dropped]
    if not compared:
        return Answer("No plan was evaluated on all of the base's tasks, so none can be compared with it.")
    within = [row for row in compared if row.within_one_stderr]
    if not within:
        return _nothing_qualifies(results, base, compared)
    winner = max(within, key=lambda row: (row.plan.sublayers_dropped, row.plan.parameters_saved))
    rows = (reference.rows.get(winner.plan.name) for reference in references(results))
    speedup = next((row for row in rows if row), None)
    sentence = _sentence(winner.plan, results.run.num_layers, speedup)
    return Answer(sentence, _evidence(results, base, winner, compared), winner, speedup)


def is_baseline(plan: PlanRow) -> bool:
    """Whether the plan ignores or inverts the scores on purpose, to be compared with."""
    return plan.strategy.startswith(("random", "reverse"))


def _sentence(plan: PlanRow, num_layers: int, speedup: ServingRow | None) -> str:
    parameters = percent(plan.parameters_saved, plan.parameters + plan.parameters_saved)
    kv_cache = percent(plan.kv_bytes_saved_per_token, plan.kv_bytes_per_token + plan.kv_bytes_saved_per_token)
    drops = (
        f"{plan.name} is the largest plan within {CRITERION}: it drops {plan.sublayers_dropped} of the "
        f"{2 * num_layers} attention layers and MLPs ({dropped_layers(plan.drop_attn, plan.drop_mlp)})"
    )
    saves = f"saves {parameters} of the parameters and {kv_cache} of the KV cache"
    return f"{drops}, {saves}, and {_speed(speedup)}." if speedup else f"{drops} and {saves}."


def _speed(row: ServingRow) -> str:
    interval = f"95 % interval {row.low:.3f} to {row.high:.3f}"
    where = f"({interval}; workload {row.workload}, batch {row.batch_size})"
    if ratio_of(row).contains_one:
        return f"generates as fast as the base, as far as can be told {where}"
    return f"generates {row.ratio:.3f} times the base's tokens per second {where}"


def _evidence(results: Results, base: Standing, winner: Standing, compared: Sequence[Standing]) -> tuple[str, ...]:
    assert winner.average is not None
    assert base.average is not None
    tasks = averaged_tasks(results)
    sentences = [
        f"Averaged over {count(len(tasks), 'task')} ({', '.join(task for task, _ in tasks)}) it reaches "
        f"{estimate(winner.average.value, winner.average.stderr)}, the base "
        f"{estimate(base.average.value, base.average.stderr)}."
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
    sentences.append(f"Plans that qualify: {qualifying} of {len(compared)} evaluated; this is the largest.")
    if is_baseline(winner.plan):
        sentences.append(
            f"It is a baseline ({winner.plan.strategy}), not a plan that follows the scores: on this evaluation "
            "the scores were not needed to find it."
        )
    return tuple(sentences)


def _nothing_qualifies(results: Results, base: Standing, compared: Sequence[Standing]) -> Answer:
    assert base.average is not None
    numeric = [row for row in compared if row.average is not None and not math.isnan(row.average.value)]
    evidence = [
        f"The base averages {estimate(base.average.value, base.average.stderr)} over "
        f"{count(len(averaged_tasks(results)), 'task')}."
    ]
    if numeric:
        closest = max(numeric, key=lambda row: row.average.value if row.average else -math.inf)
        assert closest.average is not None
        evidence.append(f"The closest plan is {closest.plan.name}, with {number(closest.average.value)}.")
    plans = count(len(compared), "plan")
    return Answer(f"No evaluated plan stays within {CRITERION} ({plans} compared).", tuple(evidence))


def _why_no_base_average(results: Results) -> str:
    base = results.plans[0].name
    if not any(row.plan == base for row in results.evaluations):
        return "The base was not evaluated, so no plan can be said to be as good as the base."
    return "No evaluated task has a primary metric where higher is better, so there is no average to compare."
