"""The demo corpus: an endless, seeded stream of short English documents of five kinds.

A seed and a split go in. Out come documents as strings without line breaks. Training and held-out documents differ by
construction. Each kind of document rests on combinations of words (a name and a place, a noun and a landmark, two
numbers) that belong to one split only, see `drop_ray.demo.lexicon.is_held_out`.
"""

import random
from collections.abc import Callable, Iterator

from drop_ray.demo.arithmetic import arithmetic_document
from drop_ray.demo.grammar import agreement_document
from drop_ray.demo.lexicon import Split
from drop_ray.demo.lists import list_document
from drop_ray.demo.recall import recall_document
from drop_ray.demo.stories import story_document

KINDS: tuple[tuple[Callable[[random.Random, Split], str], int], ...] = (
    (recall_document, 45),
    (list_document, 15),
    (agreement_document, 15),
    (arithmetic_document, 15),
    (story_document, 10),
)


def documents(seed: int, split: Split) -> Iterator[str]:
    """The documents of a seed, without end. Their kinds have the weights of `KINDS`."""
    rng = random.Random(f"{split}-{seed}")
    makers = [maker for maker, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    while True:
        yield rng.choices(makers, weights)[0](rng, split)


def documents_up_to(seed: int, split: Split, characters: int) -> list[str]:
    """The first documents of a seed, until their texts together have at least `characters` characters."""
    chosen: list[str] = []
    total = 0
    for document in documents(seed, split):
        chosen.append(document)
        total += len(document)
        if total >= characters:
            break
    return chosen
