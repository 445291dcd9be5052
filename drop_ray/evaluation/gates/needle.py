"""Recall of a needle: one fact about a person somewhere in a long text about other things, asked for at its end.

    Read this text. The cow near the hill is tired. ... Emma has a golden hat. ... Question: What does Emma have?
    Answer: Emma has a

The candidates are things that nobody else has either, so that nothing but the text tells which of them is right.
"""

import random

from drop_ray.evaluation.gates.gate import Item, LikelihoodGate, random_of
from drop_ray.evaluation.gates.writer import Writer

NAMES = ("Anna", "Clara", "Emma", "Julia", "Laura", "Maria", "Sara", "Adam", "David", "Leo", "Oscar", "Paul", "Simon")
COLORS = ("black", "blue", "brown", "green", "grey", "pink", "purple", "red", "white", "silver", "yellow", "golden")
THINGS = ("bag", "ball", "bell", "boat", "book", "chair", "clock", "coat", "cup", "drum", "hat", "lamp", "ring")
ANIMALS = ("bird", "cat", "cow", "dog", "duck", "fox", "goose", "horse", "mouse")
LANDMARKS = ("bridge", "door", "fence", "gate", "hill", "house", "lake", "tower", "tree", "wall")
PLACES = ("behind", "beside", "near", "above", "below")
STATES = ("cold", "happy", "hungry", "lost", "ready", "sad", "sleepy", "thirsty", "tired", "warm")
ASIDES = (" The weather is fine.", " It is a long story.", " That is well known.")
OPENING = "Read this text."
CANDIDATES = 4


def needle_gate(writer: Writer, seed: int, num_items: int, length: int) -> LikelihoodGate:
    """Texts that have `length` tokens with the answer, or a few less."""
    name = f"needle-{length}"
    items = tuple(_item(writer, random_of(name, seed, number), length) for number in range(num_items))
    return LikelihoodGate(name, title(length), items)


def title(length: int) -> str:
    return f"needle at {length:,} tokens"


def texts() -> list[str]:
    """Everything that is written, to see whether a tokenizer can."""
    words = (*NAMES, *COLORS, *THINGS, *ANIMALS, *LANDMARKS, *PLACES, *STATES)
    return [OPENING, *ASIDES, " ".join(words), "Question: What does Emma have? Answer: Emma has a golden hat."]


def _item(writer: Writer, draw: random.Random, length: int) -> Item:
    who = draw.choice(NAMES)
    things = [
        " ".join(pair) for pair in zip(draw.sample(COLORS, CANDIDATES), draw.sample(THINGS, CANDIDATES), strict=True)
    ]
    fact, question = f" {who} has a {things[0]}.", f" Question: What does {who} have? Answer: {who} has a"
    candidates = tuple(writer.after(f" {thing}.", before=question) for thing in things)
    needle, asked = writer.after(fact), writer.after(question)
    hay = [writer.beginning + writer.ids(OPENING)]
    room = length - len(hay[0]) - len(needle) - len(asked) - max(map(len, candidates))
    while len(straw := writer.after(_straw(draw))) <= room:
        hay.append(straw)
        room -= len(straw)
    hay.insert(draw.randint(1, len(hay)), needle)
    return Item(tuple(token for piece in hay for token in piece) + asked, candidates)


def _straw(draw: random.Random) -> str:
    """A sentence that has nothing to do with the needle."""
    if draw.random() < 0.25:
        return draw.choice(ASIDES)
    return f" The {draw.choice(ANIMALS)} {draw.choice(PLACES)} the {draw.choice(LANDMARKS)} is {draw.choice(STATES)}."
