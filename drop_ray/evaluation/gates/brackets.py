"""Bracket matching: which bracket closes the innermost open one, after some sequences that are complete.

    ( [ ] { } ), { ( [ ] ) }, [ { ( )

The last bracket shown is a closing one, so that it is not enough to look at the last bracket that opens.
"""

import random

from drop_ray.evaluation.gates.gate import Item, LikelihoodGate, random_of
from drop_ray.evaluation.gates.writer import Writer

NAME, TITLE = "brackets", "bracket matching"
CLOSES = {"(": ")", "[": "]", "{": "}"}
COMPLETE = 3
# Pairs of brackets of a sequence, and how many may be open at once.
PAIRS, DEEPEST = 6, 4


def brackets_gate(writer: Writer, seed: int, num_items: int) -> LikelihoodGate:
    items = tuple(_item(writer, random_of(NAME, seed, number)) for number in range(num_items))
    return LikelihoodGate(NAME, TITLE, items)


def texts() -> list[str]:
    """Everything that is written, to see whether a tokenizer can."""
    return ["( [ ] { } ), { ( ) }"]


def _item(writer: Writer, draw: random.Random) -> Item:
    complete = ", ".join(" ".join(sequence(draw)) for _ in range(COMPLETE))
    shown, right = _cut(draw)
    asked = f", {' '.join(shown)}"
    context = writer.beginning + writer.ids(complete) + writer.after(asked, before=complete)
    candidates = [right, *(bracket for bracket in CLOSES.values() if bracket != right)]
    return Item(context, tuple(writer.after(f" {bracket}", before=asked) for bracket in candidates))


def sequence(draw: random.Random) -> list[str]:
    """A balanced sequence of `PAIRS` pairs."""
    brackets: list[str] = []
    still_open: list[str] = []
    to_open = PAIRS
    while to_open or still_open:
        may_open = to_open > 0 and len(still_open) < DEEPEST
        if may_open and (not still_open or draw.random() < 0.6):
            still_open.append(draw.choice(list(CLOSES)))
            brackets.append(still_open[-1])
            to_open -= 1
        else:
            brackets.append(CLOSES[still_open.pop()])
    return brackets


def _cut(draw: random.Random) -> tuple[list[str], str]:
    """The beginning of a balanced sequence that ends with two closing brackets, without the second of them."""
    while True:
        brackets = sequence(draw)
        closing = [bracket in CLOSES.values() for bracket in brackets]
        places = [at for at in range(1, len(brackets)) if closing[at] and closing[at - 1]]
        if places:
            at = draw.choice(places)
            return brackets[:at], brackets[at]
