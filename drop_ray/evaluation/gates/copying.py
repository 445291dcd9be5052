"""Copying: a row of random ordinary tokens stands there twice, and the second time it is to be gone on with.

It needs no tokenizer. To find where the row stood before and to go on from there is what induction heads do (Olsson et
al. 2022, arXiv 2209.11895).
"""

import random

from drop_ray.evaluation.gates.gate import Item, LikelihoodGate, random_of
from drop_ray.evaluation.gates.writer import Writer

NAME, TITLE = "copying", "copying"
# Tokens of a row, and how many of them are shown again, and then asked for.
ROW, SHOWN, ASKED = 32, 12, 4
FEWEST = ROW


def copying_gate(writer: Writer, seed: int, num_items: int) -> LikelihoodGate:
    """`writer` must have at least `FEWEST` ordinary tokens."""
    items = tuple(_item(writer, random_of(NAME, seed, number)) for number in range(num_items))
    return LikelihoodGate(NAME, TITLE, items)


def _item(writer: Writer, draw: random.Random) -> Item:
    row = tuple(draw.sample(writer.ordinary, ROW))
    return Item(writer.beginning + row + row[:SHOWN], (row[SHOWN : SHOWN + ASKED],))
