"""Passages that state facts about several people, tell them again and ask for them.

A random generator and a split go in. Out comes a `Passage`, whose questions have their answers and other candidates.
Nothing but the passage tells who lives where, so a reader has to look back at it: this is the part of the corpus that
needs attention. With one person it is enough to find the only place (job, thing) told. With more, it has to be the
person's.
"""

import random
from dataclasses import dataclass

from drop_ray.demo.lexicon import COLORS, JOBS, NAMES, PLACES, THINGS, Split, in_split

OPENINGS = ("This is a short text.", "Read this text.", "Here is what we know.")
FILLERS = ("The weather is fine.", "It is a long story.", "That is well known.")
FILLER_SHARE = 0.2
RETOLD_SHARE = 0.4
FORWARD_SHARE = 0.65


@dataclass(frozen=True)
class Question:
    """A question about a passage: `text`, then `lead`, then one of `candidates`."""

    text: str
    """The question itself."""
    lead: str
    """Beginning of the answer's sentence; it may be empty."""
    answer: str
    """The right candidate."""
    candidates: tuple[str, ...]
    """The answer, and what is true of other people."""

    @property
    def prompt(self) -> str:
        """Everything before the answer, without a space at its end."""
        return f"Question: {self.text} Answer: {self.lead}".rstrip()


@dataclass(frozen=True)
class Passage:
    """A short text about people, and questions about it."""

    text: str
    """The facts, with what stands around them."""
    facts: tuple[str, ...]
    """The facts in order, one sentence each."""
    questions: tuple[Question, ...]
    """Questions about the facts, in random order."""


@dataclass(frozen=True)
class Person:
    """One person of a passage. No two people of a passage share any of these."""

    name: str
    """First name."""
    place: str
    """Place where the person lives."""
    job: str
    """Job of the person."""
    color: str
    """Color of the thing."""
    thing: str
    """Thing that the person has."""


def draw_people(rng: random.Random, split: Split, count: int) -> list[Person]:
    """`count` people whose (name, value) pairs all belong to `split`, with no value used twice."""
    people: list[Person] = []
    free = {"place": list(PLACES), "job": list(JOBS), "color": list(COLORS), "thing": list(THINGS)}
    names = list(NAMES)
    while len(people) < count:
        name = names.pop(rng.randrange(len(names)))
        allowed = {kind: [value for value in values if in_split(split, name, value)] for kind, values in free.items()}
        if not all(allowed.values()):
            continue
        chosen = {kind: rng.choice(values) for kind, values in allowed.items()}
        for kind, value in chosen.items():
            free[kind].remove(value)
        people.append(Person(name=name, **chosen))
    return people


def recall_passage(rng: random.Random, split: Split, people_count: int, absent_count: int = 0) -> Passage:
    """A passage with three facts about one person, or two about each of `people_count` people, and a question for each.

    The candidates of a question come from these people and from `absent_count` others, of whom the passage says
    nothing. The questions stand in random order.
    """
    drawn = draw_people(rng, split, people_count + absent_count)
    people = drawn[:people_count]
    kinds = rng.sample(["place", "job", "thing"], 3 if people_count == 1 else 2)
    facts = [_fact(person, kind) for person in people for kind in kinds]
    sentences = [rng.choice(OPENINGS)]
    for fact in facts:
        sentences.append(fact)
        if rng.random() < FILLER_SHARE:
            sentences.append(rng.choice(FILLERS))
    questions = [_question(rng, person, kind, drawn) for kind in kinds for person in people]
    rng.shuffle(questions)
    return Passage(" ".join(sentences), tuple(facts), tuple(questions))


def recall_document(rng: random.Random, split: Split) -> str:
    """A passage about one to three people, then its facts again and again: as statements, or asked for and answered."""
    passage = recall_passage(rng, split, rng.choice([1, 1, 2, 2, 3]))
    parts = [passage.text]
    for _ in range(rng.randint(6, 12)):
        if rng.random() < RETOLD_SHARE:
            parts.append(rng.choice(passage.facts))
        else:
            question = rng.choice(passage.questions)
            parts.append(f"{question.prompt} {question.answer}.")
    return " ".join(parts)


def _fact(person: Person, kind: str) -> str:
    if kind == "place":
        return f"{person.name} lives in {person.place}."
    if kind == "job":
        return f"{person.name} works as a {person.job}."
    return f"{person.name} has a {person.color} {person.thing}."


def _question(rng: random.Random, person: Person, kind: str, people: list[Person]) -> Question:
    name = person.name
    if rng.random() >= FORWARD_SHARE:
        who = {
            "place": f"Who lives in {person.place}?",
            "job": f"Who works as a {person.job}?",
            "thing": f"Who has a {person.color} {person.thing}?",
        }
        return Question(who[kind], "", name, tuple(other.name for other in people))
    if kind == "place":
        places = tuple(other.place for other in people)
        return Question(f"Where does {name} live?", f"{name} lives in", person.place, places)
    if kind == "job":
        jobs = tuple(other.job for other in people)
        return Question(f"What is the job of {name}?", f"{name} works as a", person.job, jobs)
    things = tuple(f"{other.color} {other.thing}" for other in people)
    return Question(f"What does {name} have?", f"{name} has a", f"{person.color} {person.thing}", things)
