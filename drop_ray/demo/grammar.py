"""Sentences whose verb or pronoun agrees with a subject that stands several words earlier.

A random generator and a split go in. Out comes an `AgreementSentence`: its beginning, the right next word and the wrong
one. The nouns between the subject and its verb mostly have the other number, so that the nearest noun misleads.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.demo.lexicon import (
    DAYS,
    INTRANSITIVE,
    LANDMARKS,
    MEN,
    NOUN_ADJECTIVES,
    NOUNS,
    PREPOSITIONS,
    STATES,
    THINGS,
    TRANSITIVE,
    WOMEN,
    Split,
    in_split,
)

BE_FORMS = (("is", "are"), ("was", "were"))
MISLEADING_SHARE = 0.7
CORPUS_EXTRA_PHRASES = (0, 0, 1, 1, 2)


@dataclass(frozen=True)
class AgreementSentence:
    """A sentence in parts, which spaces join."""

    beginning: str
    """Text before the verb or pronoun."""
    right: str
    """The form that agrees."""
    wrong: str
    """The form that does not agree."""
    ending: str
    """Text after the verb or pronoun."""

    @property
    def text(self) -> str:
        return f"{self.beginning} {self.right} {self.ending}"


def agreement_sentence(
    rng: random.Random, split: Split, extra_phrases: Sequence[int] = CORPUS_EXTRA_PHRASES
) -> AgreementSentence:
    """One sentence of a random kind: a verb over intervening phrases, or a pronoun that refers to a person.

    One phrase always stands between subject and verb. How many more is drawn from `extra_phrases`.
    """
    kind = rng.choice(["be", "be", "verb", "pronoun"])
    if kind == "pronoun":
        return _pronoun_sentence(rng, split)
    phrase, number = _subject(rng, split, extra_phrases)
    if kind == "be":
        forms, ending = rng.choice(BE_FORMS), f"{rng.choice(STATES)}."
    else:
        forms, ending = rng.choice(INTRANSITIVE), f"on {rng.choice(DAYS)}."
    return AgreementSentence(_capital(phrase), forms[number], forms[1 - number], ending)


def agreement_document(rng: random.Random, split: Split) -> str:
    """Four to eight unrelated sentences."""
    return " ".join(agreement_sentence(rng, split).text for _ in range(rng.randint(4, 8)))


def _subject(rng: random.Random, split: Split, extra_phrases: Sequence[int]) -> tuple[str, int]:
    """A noun phrase with the phrases that follow it, and the noun's number (0 singular, 1 plural)."""
    number = rng.randrange(2)
    landmark_number = 1 - number if rng.random() < MISLEADING_SHARE else number
    noun, landmark = _combination(rng, split)
    phrase = f"the {_adjective(rng)}{noun[number]} {rng.choice(PREPOSITIONS)} the {landmark[landmark_number]}"
    for _ in range(rng.choice(extra_phrases)):
        phrase += " " + rng.choice([_landmark_phrase, _relative_clause])(rng, number)
    return phrase, number


def _combination(rng: random.Random, split: Split) -> tuple[tuple[str, str], tuple[str, str]]:
    while True:
        noun, landmark = rng.choice(NOUNS), rng.choice(LANDMARKS)
        if in_split(split, noun[0], landmark[0]):
            return noun, landmark


def _landmark_phrase(rng: random.Random, subject_number: int) -> str:
    number = 1 - subject_number if rng.random() < MISLEADING_SHARE else subject_number
    return f"{rng.choice(PREPOSITIONS)} the {rng.choice(LANDMARKS)[number]}"


def _relative_clause(rng: random.Random, subject_number: int) -> str:
    number = 1 - subject_number if rng.random() < MISLEADING_SHARE else subject_number
    return f"that the {rng.choice(NOUNS)[number]} {rng.choice(TRANSITIVE)[number]}"


def _adjective(rng: random.Random) -> str:
    return f"{rng.choice(NOUN_ADJECTIVES)} " if rng.random() < 0.3 else ""


def _pronoun_sentence(rng: random.Random, split: Split) -> AgreementSentence:
    while True:
        woman, man, thing = rng.choice(WOMEN), rng.choice(MEN), rng.choice(THINGS)
        if in_split(split, woman, man):
            break
    (subject, other), (right, wrong) = rng.choice([((woman, man), ("she", "he")), ((man, woman), ("he", "she"))])
    place = f"{rng.choice(PREPOSITIONS)} the {rng.choice(LANDMARKS)[0]}"
    beginning = rng.choice(
        [
            f"On {rng.choice(DAYS)} {subject} met {other} {place} and lost the {thing} that",
            f"On {rng.choice(DAYS)} {subject} saw the {thing} of {other} {place} and said that",
        ]
    )
    return AgreementSentence(beginning, right, wrong, f"liked the {thing}.")


def _capital(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
