"""The words of the demo corpus, and the rule that keeps some of their combinations out of training.

There are few words, and each is frequent: a model of 2.5 million parameters then spends its training on relations
between words rather than on the words. The generators of the documents read these tables.
"""

import zlib
from typing import Literal

Split = Literal["train", "heldout"]

HELD_OUT_ONE_IN = 6

WOMEN = ("Anna", "Clara", "Emma", "Greta", "Ida", "Julia", "Laura", "Maria", "Nora", "Olga", "Rosa", "Sara")
MEN = ("Adam", "Bruno", "David", "Felix", "Hugo", "Ivan", "Jonas", "Leo", "Oscar", "Paul", "Simon", "Victor")
NAMES = WOMEN + MEN

PLACES = (
    *("Athens", "Berlin", "Cairo", "Dublin", "Geneva", "Havana", "Kyoto", "Lima"),
    *("London", "Madrid", "Milan", "Oslo", "Paris", "Prague", "Rome", "Vienna"),
)
JOBS = (
    *("baker", "clerk", "cook", "dentist", "doctor", "driver", "farmer", "gardener"),
    *("lawyer", "nurse", "painter", "pilot", "sailor", "singer", "teacher", "writer"),
)
COLORS = ("black", "blue", "brown", "green", "grey", "pink", "purple", "red", "white", "silver", "yellow", "golden")
THINGS = (
    *("bag", "ball", "bell", "boat", "book", "chair", "clock", "coat"),
    *("cup", "drum", "hat", "kite", "lamp", "mirror", "ring", "table"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

GOODS = ("apples", "books", "buttons", "candles", "coins", "eggs", "lemons", "pencils", "plums", "shells", "stones")

NOUNS = (
    *(("bird", "birds"), ("boy", "boys"), ("cat", "cats"), ("child", "children"), ("cow", "cows"), ("dog", "dogs")),
    *(("duck", "ducks"), ("fox", "foxes"), ("girl", "girls"), ("goose", "geese"), ("horse", "horses")),
    *(("king", "kings"), ("man", "men"), ("mouse", "mice"), ("queen", "queens"), ("woman", "women")),
)
LANDMARKS = (
    *(("bridge", "bridges"), ("door", "doors"), ("fence", "fences"), ("gate", "gates"), ("hill", "hills")),
    *(("house", "houses"), ("lake", "lakes"), ("tower", "towers"), ("tree", "trees"), ("wall", "walls")),
)
PREPOSITIONS = ("behind", "beside", "near", "by", "above", "below")
NOUN_ADJECTIVES = ("big", "old", "quiet", "small", "tall", "young")
STATES = ("cold", "happy", "hungry", "lost", "ready", "sad", "sleepy", "thirsty", "tired", "warm")
INTRANSITIVE = (("runs", "run"), ("sings", "sing"), ("sleeps", "sleep"), ("waits", "wait"), ("walks", "walk"))
TRANSITIVE = (("follows", "follow"), ("hears", "hear"), ("helps", "help"), ("likes", "like"), ("sees", "see"))


def is_held_out(*words: str) -> bool:
    """Whether documents that rest on this combination of words belong to the held-out split.

    The combination decides, not the generator's seed, so that no training document states what a held-out one states.
    About one combination in `HELD_OUT_ONE_IN` is held out.
    """
    return zlib.crc32("|".join(words).encode("ascii")) % HELD_OUT_ONE_IN == 0


def in_split(split: Split, *words: str) -> bool:
    """Whether a document of `split` may rest on this combination of words."""
    return is_held_out(*words) == (split == "heldout")
