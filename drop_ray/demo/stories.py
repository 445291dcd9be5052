"""Short stories about two people who meet and trade. Names, pronouns, colors and prices recur as the story goes on.

A random generator and a split go in, the text of one story comes out. Every later mention follows from an earlier one,
so most words of the second half can be predicted by a reader who kept the first half in mind.
"""

import random

from drop_ray.demo.lexicon import COLORS, DAYS, MEN, PLACES, STATES, THINGS, WOMEN, Split, in_split


def story_document(rng: random.Random, split: Split) -> str:
    """One story: a meeting, a purchase that one purse allows and the other may not, and a look back."""
    buyer, friend, pronoun, place = _cast(rng, split)
    day, color, thing = rng.choice(DAYS), rng.choice(COLORS), rng.choice(THINGS)
    price, purse = rng.randint(2, 20), rng.randint(2, 20)
    opening = rng.choice(
        [
            f"On {day} {buyer} went to the market in {place} with {friend}.",
            f"Last {day} {buyer} and {friend} came to {place}.",
        ]
    )
    wish = f"There {buyer} saw a {color} {thing} for {price} coins."
    money = f"{pronoun} had {purse} coins."
    if purse >= price:
        outcome = f"{purse} is not less than {price}, so {buyer} bought the {color} {thing}."
        ending = f"{friend} was happy and said: {buyer} has a {color} {thing} from {place}."
    else:
        outcome = f"{purse} is less than {price}, so {buyer} did not buy the {color} {thing}."
        ending = f"{friend} was {rng.choice(STATES)} and said: the {color} {thing} in {place} costs {price} coins."
    question = rng.choice(
        [
            f"Question: Who saw the {thing}? Answer: {buyer}.",
            f"Question: Where was {buyer}? Answer: {place}.",
            f"Question: What color was the {thing}? Answer: {color}.",
            f"Question: How many coins did {buyer} have? Answer: {purse}.",
        ]
    )
    return " ".join([opening, wish, money, outcome, ending, question])


def _cast(rng: random.Random, split: Split) -> tuple[str, str, str, str]:
    """The buyer, the friend, the buyer's pronoun and the place. Buyer and place decide the split."""
    while True:
        group, other_group, pronoun = rng.choice([(WOMEN, MEN, "She"), (MEN, WOMEN, "He")])
        buyer, friend, place = rng.choice(group), rng.choice(other_group), rng.choice(PLACES)
        if in_split(split, buyer, place):
            return buyer, friend, pronoun, place
