"""Rows of the demo's lm-eval tasks: the questions to ask, and few-shot examples.

A seed, a split and a number of rows go in. Out come dictionaries with `context` (the text before the answer), `choices`
and `answer` (the index of the right choice). No context occurs twice among the rows of one call. Each choice completes
its sentence: so few-shot examples read like the corpus, and no choice is the beginning of another, as 1 is of 11.
"""

import random
from collections.abc import Callable
from typing import TypedDict

from drop_ray.demo.arithmetic import problem
from drop_ray.demo.grammar import agreement_sentence
from drop_ray.demo.lexicon import Split
from drop_ray.demo.recall import recall_passage

RECALL_CHOICES = 4
AGREEMENT_EXTRA_PHRASES = (2, 3, 4)


class Row(TypedDict):
    """One multiple-choice document as it stands in a JSONL file."""

    context: str
    """The text before the answer."""
    choices: list[str]
    """Possible continuations."""
    answer: int
    """Index of the right choice."""


def recall_row(rng: random.Random, split: Split) -> Row:
    """A passage about one or two people, and one question.

    The other choices are true of the other person, or of nobody.
    """
    people_count = rng.choice([1, 2])
    passage = recall_passage(rng, split, people_count, absent_count=RECALL_CHOICES - people_count)
    question = passage.questions[0]
    candidates = rng.sample(question.candidates, RECALL_CHOICES)
    return Row(
        context=f"{passage.text} {question.prompt}",
        choices=[f"{candidate}." for candidate in candidates],
        answer=candidates.index(question.answer),
    )


def agreement_row(rng: random.Random, split: Split) -> Row:
    """The beginning of a sentence, longer than most of training.

    The choices are the form that agrees and the other form.
    """
    sentence = agreement_sentence(rng, split, AGREEMENT_EXTRA_PHRASES)
    forms = [sentence.right, sentence.wrong]
    rng.shuffle(forms)
    return Row(
        context=sentence.beginning,
        choices=[f"{form} {sentence.ending}" for form in forms],
        answer=forms.index(sentence.right),
    )


def arithmetic_row(rng: random.Random, split: Split) -> Row:
    """A problem. The choices are its result and three near misses."""
    item = problem(rng, split)
    return Row(
        context=item.text,
        choices=[f"{candidate}{item.ending}" for candidate in item.candidates],
        answer=item.candidates.index(item.answer),
    )


def rows(
    maker: Callable[[random.Random, Split], Row], seed: int, split: Split, count: int, known: Callable[[str], bool]
) -> list[Row]:
    """`count` rows with different contexts, in the order drawn, leaving out those whose context is `known`."""
    rng = random.Random(f"{maker.__name__}-{split}-{seed}")
    chosen: dict[str, Row] = {}
    while len(chosen) < count:
        row = maker(rng, split)
        if row["context"] not in chosen and not known(row["context"]):
            chosen[row["context"]] = row
    return list(chosen.values())
