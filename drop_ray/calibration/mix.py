"""A mix of texts: how many samples each gives, and in which order they follow each other.

Every sample is of one text, so that shares of samples are shares of tokens.
"""

import random
from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray


def parts_of(shares: Sequence[float]) -> tuple[Fraction, ...]:
    """The shares as exact parts of 1. A share is the decimal number that the config has: 0.1 is a tenth."""
    exact = [Fraction(repr(share)) for share in shares]
    return tuple(share / sum(exact) for share in exact)


def counts_of(parts: Sequence[Fraction], num_samples: int) -> tuple[int, ...]:
    """Samples of each part by the method of largest remainders: none is a whole sample off its share.

    Of equal remainders the larger part goes first, then the earlier one.
    """
    counts = [floor(part * num_samples) for part in parts]
    left = num_samples - sum(counts)
    order = sorted(range(len(parts)), key=lambda one: (counts[one] - parts[one] * num_samples, -parts[one], one))
    for one in order[:left]:
        counts[one] += 1
    return tuple(counts)


def most_samples(parts: Sequence[Fraction], available: Sequence[int], at_most: int) -> int:
    """The largest mix in these shares, of at most so many samples, that the available samples of each part give."""
    for number in range(at_most, 0, -1):
        if all(count <= there for count, there in zip(counts_of(parts, number), available, strict=True)):
            return number
    return 0


def largest_share(shares: Sequence[float], position: int, available: int, num_samples: int) -> float | None:
    """The share, the others as they are, with which a text takes no more samples than it has; rounded down.

    None if no share does: it has no sample, or is the only text.
    """
    others = sum(Fraction(repr(share)) for number, share in enumerate(shares) if number != position)
    if not others or not available:
        return None
    exact = others * available / (num_samples - available)
    # Three digits, from the leading one on.
    unit = Fraction(1)
    while exact / unit < 100:
        unit /= 10
    while exact / unit >= 1000:
        unit *= 10
    return float(floor(exact / unit) * unit)


def order_of(counts: Sequence[int], seed: int) -> tuple[int, ...]:
    """The part that each sample of the mix is of.

    The samples of a part are spread evenly, each at a random place of its stretch: every beginning of the mix has about
    the shares of the whole.
    """
    draw = random.Random(seed)
    places = [((number + draw.random()) / count, part) for part, count in enumerate(counts) for number in range(count)]
    return tuple(part for _, part in sorted(places))


def interleaved(samples: Sequence[NDArray[np.int32]], seed: int) -> NDArray[np.int32]:
    """The samples of all parts in one order, int32 [sum of counts, seq_len]; those of a part keep theirs.

    samples: of each part, int32 [count, seq_len].
    """
    order = np.array(order_of([len(part) for part in samples], seed), dtype=np.intp)
    mixed = np.empty((len(order), samples[0].shape[1]), dtype=np.int32)
    for number, part in enumerate(samples):
        mixed[order == number] = part
    return mixed
