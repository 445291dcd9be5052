"""Lists in which the same few names recur, each always with its own number: the plainest form of looking back.

A random generator and a split go in, a document comes out. A reader who finds a name's earlier place knows the number
that follows. The names recur so often that merely repeating what was there before is already better than guessing.
"""

import random

from drop_ray.demo.lexicon import NAMES, Split, in_split

TITLES = ("Rooms", "Tables", "Points", "Tickets")


def list_document(rng: random.Random, split: Split) -> str:
    """Three to six entries of a name and a digit, drawn twelve to twenty times in all."""
    entries = _entries(rng, split, rng.randint(3, 6))
    return f"{rng.choice(TITLES)}: {', '.join(rng.choices(entries, k=rng.randint(12, 20)))}."


def _entries(rng: random.Random, split: Split, count: int) -> list[str]:
    """Different names with one digit each. Each pair of a name and its digit belongs to the split."""
    entries: list[str] = []
    for name in rng.sample(NAMES, len(NAMES)):
        digits = [digit for digit in "0123456789" if in_split(split, name, digit)]
        if digits and len(entries) < count:
            entries.append(f"{name} {rng.choice(digits)}")
    return entries
