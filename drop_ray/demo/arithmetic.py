"""Small sums, differences and comparisons, bare and inside a sentence.

A random generator and a split go in. Out comes a `Problem`: the text before the result, the result, and near misses.
The pair of numbers decides the split, in both orders and both operations together, so that a held-out sum is nowhere in
training.
"""

import random
from dataclasses import dataclass

from drop_ray.demo.lexicon import GOODS, NAMES, Split, in_split

LARGEST = 15


@dataclass(frozen=True)
class Problem:
    """A statement to complete: `text`, a space, one of `candidates`, and `ending`."""

    text: str
    """Text before the result."""
    answer: str
    """The right result."""
    candidates: tuple[str, ...]
    """The result and near misses, in random order."""
    ending: str
    """Text after the result."""


def problem(rng: random.Random, split: Split) -> Problem:
    """A sum or a difference with a number as its result."""
    small, large = _pair(rng, split)
    adding = rng.random() < 0.6
    if adding:
        first, second = rng.choice([(small, large), (large, small)])
        result = first + second
    else:
        first, second, result = large, small, large - small
    misses = [result + step for step in (-10, -3, -2, -1, 1, 2, 3, 10) if result + step >= 0]
    candidates = [result, *rng.sample(misses, 3)]
    rng.shuffle(candidates)
    text, ending = f"{first} {'plus' if adding else 'minus'} {second} is", "."
    if rng.choice(["bare", "story"]) == "story":
        text, ending = _story(rng, first, second, adding)
    return Problem(text, str(result), tuple(str(candidate) for candidate in candidates), ending)


def arithmetic_document(rng: random.Random, split: Split) -> str:
    """Six to ten problems with their results, one in four of them a comparison."""
    statements = []
    for _ in range(rng.randint(6, 10)):
        if rng.random() < 0.25:
            statements.append(_comparison(rng, split))
        else:
            item = problem(rng, split)
            statements.append(f"{item.text} {item.answer}{item.ending}")
    return " ".join(statements)


def _pair(rng: random.Random, split: Split) -> tuple[int, int]:
    while True:
        small, large = sorted((rng.randint(0, LARGEST), rng.randint(0, LARGEST)))
        if in_split(split, str(small), str(large)):
            return small, large


def _story(rng: random.Random, first: int, second: int, adding: bool) -> tuple[str, str]:
    name, goods = rng.choice(NAMES), rng.choice(GOODS)
    change = "finds" if adding else "loses"
    return f"{name} has {first} {goods} and {change} {second}. Now {name} has", f" {goods}."


def _comparison(rng: random.Random, split: Split) -> str:
    small, large = _pair(rng, split)
    if small == large:
        return f"{small} is equal to {large}."
    return rng.choice([f"{small} is less than {large}.", f"{large} is more than {small}."])
