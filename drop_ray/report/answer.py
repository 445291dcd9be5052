"""The report's first line: which variants are acceptable by the user's rule, and which of them are named.

All variants compete, whatever made them. Where none is acceptable, it is said whether all lose too much, or whether
the documents cannot tell, and how many would.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from drop_ray.config.accept import AVERAGE, KL
from drop_ray.report.acceptance import AcceptanceRow, acceptance
from drop_ray.report.choice import SMALLEST, Named, choose
from drop_ray.report.draft_rows import failed_drafts
from drop_ray.report.evidence import ruled_tasks
from drop_ray.report.formatting import count, percent, ratio
from drop_ray.report.objections import faults_of_speed
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.rule_text import needed_text, rule_text, seen_loss
from drop_ray.report.serving import ratio_of
from drop_ray.report.statistics import without_number

SHOWN = 3
"""Variants of which it is said how many documents would tell."""


@dataclass(frozen=True)
class Answer:
    """What is said first."""

    sentence: str
    """The answer, or why there is none."""
    evidence: tuple[str, ...] = ()
    """The sentences that follow the first."""
    named: tuple[Named, ...] = ()
    """The variants that it names as acceptable, three at most."""
    rows: tuple[AcceptanceRow, ...] = ()
    """What the rule says of every variant."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(one.variant.name for one in self.named)

    @property
    def smallest(self) -> VariantRow | None:
        """The variant that is named as the smallest."""
        return next((one.variant for one in self.named if SMALLEST in one.roles), None)


@lru_cache(maxsize=1)  # sections ask for it one after another, and bounds and documents to tell take seconds
def find_answer(results: Results) -> Answer:
    """The answer, or a plain statement of why there is none; then what has failed: speeds, tasks, drafts."""
    answer = _find(results)
    failures = faults_of_speed(results, [one.speedup for one in answer.named if one.speedup])
    if lost := [f"{task} on {', '.join(variants)}" for task, variants in without_number(results).items()]:
        failures.append(f"There is no number of {'; of '.join(lost)}.")
    failures += [
        f"As a draft, {row.variant} changed the base's own tokens of {row.prompts - (row.identical or 0)} of "
        f"{count(row.prompts, 'prompt')} with {count(row.tokens, 'drafted token')}, which must not be."
        for row in failed_drafts(results.drafts)
    ]
    return replace(answer, sentence=" ".join([answer.sentence, *failures])) if failures else answer


def is_baseline(variant: VariantRow) -> bool:
    """Whether its strategy ignores or inverts the scores on purpose, to be compared with."""
    return variant.strategy.startswith(("random", "reverse"))


def _find(results: Results) -> Answer:
    rows = acceptance(results)
    if not rows:
        return Answer("This run made no drop plans, so there is nothing to compare.")
    known = [row for row in rows if row.loss is not None]
    if not known:
        return Answer(_why_nothing_is_known(results, rows), _remedy(results), rows=tuple(rows))
    named = choose(results, rows)
    sentence = _names(results, named, rows) if named else _nothing(results, known)
    return Answer(sentence, tuple(_evidence(results, named, rows)), tuple(named), tuple(rows))


def _names(results: Results, named: Sequence[Named], rows: Sequence[AcceptanceRow]) -> str:
    alone = sum(row.outcome == "acceptable" for row in rows) == 1
    sentences = []
    for index, one in enumerate(named):
        roles = "only" if alone else _and(one.roles)
        rule = "" if index else f" variant that {rule_text(results.accept)}"
        but = f", but {_and(one.objections)}" if one.objections else ""
        sentences.append(f"{one.variant.name} is the {roles}{rule}: {_facts(results, one)}{but}.")
    return " ".join(sentences)


def _facts(results: Results, one: Named) -> str:
    base = results.variants[0]
    size = percent(one.variant.weight_bytes, base.weight_bytes)
    kv = percent(one.variant.kv_bytes_per_token, base.kv_bytes_per_token)
    if one.speedup is None:
        return f"{size} of the base's bytes and {kv} of its KV cache"
    speed = f"{ratio(one.speedup.ratio)} times its tokens per second"
    if ratio_of(one.speedup).contains_one:
        speed = "as fast as it, as far as can be told"
    return f"{size} of the base's bytes, {kv} of its KV cache, {speed}"


def _nothing(results: Results, known: Sequence[AcceptanceRow]) -> str:
    """known: rows with a loss, none of them acceptable."""
    rule, nearest = results.accept, min(known, key=lambda row: (row.outcome == "not acceptable", row.high))
    if nearest.outcome == "not acceptable":
        return f"No variant {rule_text(rule)}: the nearest is {nearest.variant}, which {seen_loss(rule, nearest)}."
    unknown = f"Cannot tell whether any variant {rule_text(rule)}"
    if likely := _told_by(known):
        return f"{unknown}: about {_needs(results, likely)}."
    return f"{unknown}: none looks as if, and the nearest is {nearest.variant}, which {seen_loss(rule, nearest)}."


def _told_by(rows: Sequence[AcceptanceRow]) -> list[AcceptanceRow]:
    """Those that look acceptable and are not known to be, the first that would be known first."""
    open_rows = [row for row in rows if row.outcome == "cannot tell" and row.looks_acceptable and row.needed]
    return sorted(open_rows, key=lambda row: row.needed or 0)[:SHOWN]


def _needs(results: Results, rows: Sequence[AcceptanceRow]) -> str:
    """`1,400 documents a task are needed for attention-1, 2,600 for attention-2`."""
    first, *others = rows
    text = f"{needed_text(results.accept, first.needed or 0, len(ruled_tasks(results)))} are needed for {first.variant}"
    return ", ".join([text, *(f"{row.needed:,} for {row.variant}" for row in others)])


def _evidence(results: Results, named: Sequence[Named], rows: Sequence[AcceptanceRow]) -> list[str]:
    outcomes = [row.outcome for row in rows]
    accepted, refused, unknown = (outcomes.count(one) for one in ("acceptable", "not acceptable", "cannot tell"))
    sentences = [
        f"Variants: {accepted} acceptable, {refused} not, {unknown} of which it cannot be told; from "
        f"{_known_from(results, rows)}."
    ]
    if named and (likely := _told_by(rows)):
        sentences.append(f"Others look acceptable, but about {_needs(results, likely)}.")
    sentences += [
        f"{one.variant.name} is a baseline ({one.variant.strategy}), not one that follows the scores: on this "
        "evaluation the scores were not needed to find it."
        for one in named
        if is_baseline(one.variant)
    ]
    verdicts = {row.variant: row for row in results.verdicts}
    for one in named:
        if verdict := verdicts.get(one.variant.name):
            sentences.append(f"The damage gates say {verdict.outcome} of {verdict.variant}: {verdict.reason}.")
    return sentences


def _known_from(results: Results, rows: Sequence[AcceptanceRow]) -> str:
    """`3 tasks (a, b, c) with 750 documents`."""
    most = max(row.documents or 0 for row in rows)
    if results.accept.metric == KL:
        return count(most, "sample")
    tasks = ruled_tasks(results)
    return f"{count(len(tasks), 'task')} ({', '.join(task.task for task in tasks)}) with {count(most, 'document')}"


def _and(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _why_nothing_is_known(results: Results, rows: Sequence[AcceptanceRow]) -> str:
    """Why no variant has a loss."""
    so = "so no variant can be said to be acceptable"
    rule, base = results.accept, results.variants[0].name
    if rule.metric == KL:
        return f"No variant was compared with the base on a text, {so}."
    if not results.evaluations:
        return f"Nothing was evaluated, {so}."
    if not any(row.variant == base for row in results.evaluations):
        return f"The base was not evaluated, {so}."
    if not ruled_tasks(results):
        if base in itertools.chain(*without_number(results).values()):
            return f"The base has no number on any task, {so}."
        which = "No evaluated task" if rule.metric == AVERAGE else rule.metric
        lacks = "has a" if rule.metric == AVERAGE else "has no"
        return f"{which} {lacks} primary metric where higher is better, {so}."
    return f"Of no variant it is known what it loses, {so}: of {rows[0].variant}, {rows[0].reason}."


def _remedy(results: Results) -> tuple[str, ...]:
    if results.accept.metric == KL or not results.divergences:
        return ()
    return ("With `accept: {metric: kl, loss: 0.05 nats}` variants are judged by their predictions alone.",)
