"""Whether a text is, in part, another one, wherever its samples were cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.calibration.overlap import STRETCH, overlaps


def stream(seed, count):
    return np.random.default_rng(seed).integers(0, 30_000, count, dtype=np.int32)


def cut(tokens, seq_len):
    count = len(tokens) // seq_len
    return tokens[: count * seq_len].reshape(count, seq_len)


def test_the_same_samples_overlap_and_others_do_not():
    text = cut(stream(0, 4000), 200)
    assert overlaps(text, text) == 20
    assert overlaps(text, cut(stream(1, 4000), 200)) == 0
    assert overlaps(text, np.empty((0, 200), np.int32)) == 0


@given(offset=st.integers(0, 150), seq_len=st.integers(130, 300))
def test_a_text_is_found_however_it_was_cut(offset, seq_len):
    tokens = stream(2, 6000)
    other = cut(tokens[offset:], seq_len)
    assert overlaps(cut(tokens[:3000], 200), other) >= 2800 // seq_len - 1
    assert overlaps(cut(tokens[:3000], 200), other) <= -(-3000 // seq_len)


def test_a_shared_phrase_is_not_a_shared_text():
    one, other = cut(stream(3, 400), 200), cut(stream(4, 400), 200)
    other[1, 50 : 50 + STRETCH - 1] = one[0, 10 : 10 + STRETCH - 1]
    assert overlaps(one, other) == 0
    other[1, 50 : 50 + STRETCH] = one[0, 10 : 10 + STRETCH]
    assert overlaps(one, other) == 1


def test_samples_shorter_than_a_stretch_are_compared_whole():
    text = cut(stream(5, 64), 8)
    assert overlaps(text, text[::2]) == 4
    assert overlaps(text, np.roll(text, 1, axis=1)) == 0
