"""Sums and differences of two-digit numbers, after some that are solved: `12 + 35 = 47. 61 - 20 =`.

The other candidates are near misses with as many digits: one more or less, ten more or less, the digits swapped.
"""

import random

from drop_ray.evaluation.gates.gate import Item, LikelihoodGate, random_of
from drop_ray.evaluation.gates.writer import Writer

NAME, TITLE = "arithmetic", "two-digit arithmetic"
SOLVED = 4
CANDIDATES = 4
SMALLEST, LARGEST = 10, 99


def arithmetic_gate(writer: Writer, seed: int, num_items: int) -> LikelihoodGate:
    items = tuple(_item(writer, random_of(NAME, seed, number)) for number in range(num_items))
    return LikelihoodGate(NAME, TITLE, items)


def texts() -> list[str]:
    """Everything that is written, to see whether a tokenizer can."""
    return ["12 + 35 = 47. 98 - 60 = 38."]


def _item(writer: Writer, draw: random.Random) -> Item:
    problems = [_problem(draw) for _ in range(SOLVED + 1)]
    solved = "".join(
        f"{' ' if number else ''}{text} = {result}." for number, (text, result) in enumerate(problems[:-1])
    )
    text, result = problems[-1]
    asked = f" {text} ="
    context = writer.beginning + writer.ids(solved) + writer.after(asked)
    numbers = [result, *draw.sample(near_misses(result), CANDIDATES - 1)]
    return Item(context, tuple(writer.after(f" {number}.", before=asked) for number in numbers))


def near_misses(result: int) -> list[int]:
    """Other two-digit numbers that a slip would give, in ascending order; at least three."""
    swapped = 10 * (result % 10) + result // 10
    steps = (-11, -10, -2, -1, 1, 2, 10, 11)
    return sorted({swapped, *(result + step for step in steps)} & {*range(SMALLEST, LARGEST + 1)} - {result})


def _problem(draw: random.Random) -> tuple[str, int]:
    """A sum or a difference of two-digit numbers that has two digits."""
    while True:
        first, second = draw.randint(SMALLEST, LARGEST), draw.randint(SMALLEST, LARGEST)
        sign = draw.choice("+-")
        result = first + second if sign == "+" else first - second
        if SMALLEST <= result <= LARGEST:
            return f"{first} {sign} {second}", result
