"""Packing text into samples: what is in them exactly, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_every_format_gives_the_same_documents(tmp_path, suffix):
    path = tmp_path / f"text.{suffix}"
    documents = [{"text": "a\nb"}, {"text": "c"}, {"text": ""}]
    if suffix == "json":
        path.write_text(json.dumps(documents))
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(document) for document in documents))
    else:
        pq.write_table(pa.Table.from_pylist(documents), path)
    assert packing.read_documents(path, "text", "field") == ["a\nb", "c"]


def test_a_txt_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert packing.read_documents(tmp_path / "a.txt", "text", "field") == ["one\n\ntwo\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"content": "x"}]', "objects with a text field text"),
        ("a.json", '{"text": "x"}', "must hold a list"),
        ("a.jsonl", '{"text": ', "is not JSONL"),
        ("a.csv", "x", r"none of .txt, .json"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        packing.read_documents(tmp_path / name, "text", "calibration.source")


def test_token_ids_are_cut_to_the_samples_asked_for(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]))
    assert packing.read_token_ids(path, 2, 3, "f").tolist() == [[1, 2, 3], [5, 6, 7]]
    for samples, length, message in ((4, 3, "holds 3 samples, 4"), (2, 5, "sample 0 .* has 4 tokens, seq_len is 5")):
        with pytest.raises(UserError, match=message):
            packing.read_token_ids(path, samples, length, "f")
    path.write_text('[["a"]]')
    with pytest.raises(UserError, match="lists of ints"):
        packing.read_token_ids(path, 1, 1, "f")


def test_the_identity_is_that_of_the_tokens_and_their_shape():
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    table = packing.to_table(ids)
    assert packing.token_identity(packing.from_table(table)) == packing.token_identity(ids.astype(np.int64))
    assert packing.token_identity(ids.reshape(4, 3)) != packing.token_identity(ids)


def test_a_token_outside_the_vocabulary_is_named():
    with pytest.raises(UserError, match="token id 11 is outside the model's vocabulary of 11"):
        packing.check_vocabulary(np.arange(12).reshape(3, 4), 11, "f")
