"""Packing text into samples: what is in them exactly, and what is refused."""

import numpy as np
import pytest

from drop_ray.calibration import packing
from drop_ray.errors import UserError

EOS = 0


def tokenize(texts):
    return [[ord(letter) for letter in text] for text in texts]


def pack(documents, num_samples, seq_len, seed=None):
    documents = packing.shuffled(documents, seed)
    return packing.pack(documents, tokenize, EOS, num_samples, seq_len, field="calibration.source")


def test_documents_are_joined_with_eos_and_cut_without_bos_or_padding():
    packed = pack(["abc", "de", "fgh"], 2, 4)
    assert packed.dtype == np.int32
    assert packed.tolist() == [[97, 98, 99, EOS], [100, 101, EOS, 102]]


def test_a_seed_shuffles_documents_reproducibly():
    documents = [chr(97 + i) * 3 for i in range(20)]
    plain, first, again, other = (pack(documents, 5, 4, seed).tolist() for seed in (None, 1, 1, 2))
    assert first == again
    assert len({str(plain), str(first), str(other)}) == 3


def test_a_stream_is_read_no_further_than_the_samples_need():
    taken = []

    def stream():
        for number in range(10_000):
            taken.append(number)
            yield "abc"

    packed = packing.pack(stream(), tokenize, EOS, 300, 4, field="calibration.dataset")
    assert packed.tolist() == [[97, 98, 99, EOS]] * 300
    assert len(taken) == 2 * packing.DOCUMENTS_AT_ONCE


def test_a_seed_gives_the_order_it_always_gave():
    # Pinned: samples of a seed that are in a store must stay those of that seed.
    documents = [chr(97 + i) for i in range(10)]
    assert "".join(packing.shuffled(documents, 7)) == "idbehajgcf"
    assert "".join(documents) == "abcdefghij"


def test_too_little_text_says_how_many_samples_there_are():
    with pytest.raises(UserError, match="the text gives 2 samples of 4 tokens, 3 are asked for"):
        pack(["abc", "de", "f"], 3, 4)


def test_the_identity_is_that_of_the_tokens_and_their_shape():
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    table = packing.to_table(ids)
    assert packing.token_identity(packing.from_table(table)) == packing.token_identity(ids.astype(np.int64))
    assert packing.token_identity(ids.reshape(4, 3)) != packing.token_identity(ids)


def test_a_token_outside_the_vocabulary_is_named():
    with pytest.raises(UserError, match="token id 11 is outside the model's vocabulary of 11"):
        packing.check_vocabulary(np.arange(12).reshape(3, 4), 11, "f")
