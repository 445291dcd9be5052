"""What a file of text or token ids gives, and what is refused with its line."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drop_ray.calibration import text_files
from drop_ray.errors import UserError


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
    assert text_files.read_documents(path, "text", "field") == ["a\nb", "c"]


def test_a_txt_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert text_files.read_documents(tmp_path / "a.txt", "text", "field") == ["one\n\ntwo\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            '[{"content": "x"}]',
            "entry 0 must be a string or an object with a text field text, not an object with 'content'",
        ),
        ("a.json", '{"text": "x"}', "must hold a list"),
        ("a.jsonl", '{"text": ', "a.jsonl: is not JSON: Expecting value in line 1, column 10"),
        ("a.csv", "x", r"none of .txt, .json"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        text_files.read_documents(tmp_path / name, "text", "calibration.source")


def test_token_ids_are_cut_to_the_samples_asked_for(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]))
    assert text_files.read_token_ids(path, 2, 3, "f").tolist() == [[1, 2, 3], [5, 6, 7]]
    for samples, length, message in ((4, 3, "holds 3 samples, 4"), (2, 5, "sample 0 .* has 4 tokens, seq_len is 5")):
        with pytest.raises(UserError, match=message):
            text_files.read_token_ids(path, samples, length, "f")
    path.write_text('[["a"]]')
    with pytest.raises(UserError, match="lists of ints"):
        text_files.read_token_ids(path, 1, 1, "f")


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, text, documents in (("a.txt", "one", ["one"]), ("a.jsonl", '"one"\n', ["one"]), ("a.json", "[]", [])):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert text_files.read_documents(tmp_path / name, "text", "f") == documents


def test_marks_that_are_no_ends_of_lines_in_json_stay_in_the_text(tmp_path):
    texts = [f"Story {number}.\u2028The cat\x85went\u2029home\x0c\x1c." for number in range(3)]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in texts)
    (tmp_path / "a.jsonl").write_bytes(lines.encode())
    (tmp_path / "a.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    assert text_files.read_documents(tmp_path / "a.jsonl", "text", "f") == texts
    assert text_files.read_documents(tmp_path / "a.json", "text", "f") == texts


def test_ends_of_lines_in_a_txt_file_are_those_of_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree")
    assert text_files.read_documents(tmp_path / "a.txt", "text", "f") == ["one\ntwo\nthree"]


def test_errors_count_the_lines_of_the_file(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('"one\u2028"\n\n\n{"text": 7}\n'.encode())
    with pytest.raises(UserError, match=r"a.jsonl: line 4 must be a string or an object with a text field text"):
        text_files.read_documents(tmp_path / "a.jsonl", "text", "f")
    (tmp_path / "a.jsonl").write_bytes('"one\u2028"\n\n"two\n'.encode())
    with pytest.raises(UserError, match=r"f: .*a.jsonl: is not JSON: .* in line 3, column 1"):
        text_files.read_documents(tmp_path / "a.jsonl", "text", "f")


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (pa.array([1, 2]), "column text holds int64, not text"),
        (pa.array([["a", "b"], ["c", "d"]]), r"column text holds list<.*string>, not text"),
        (pa.array([b"a"], pa.binary()), "column text holds binary, not text"),
        (pa.array([None, None]), "column text holds null, not text"),
        (pa.array([b"\xff"]).cast(pa.binary()).view(pa.string()), "has a text that is not UTF-8"),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path, column, fault):
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=f"calibration.source: .*a.parquet: {fault}"):
        text_files.read_documents(tmp_path / "a.parquet", "text", "calibration.source")


def test_columns_of_text_in_other_forms_are_text(tmp_path):
    for column in (pa.array(["a", None], pa.large_string()), pa.array(["a", "", "a"]).dictionary_encode()):
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        assert set(text_files.read_documents(tmp_path / "a.parquet", "text", "f")) == {"a"}


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    for data in (b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"text"):
        path.write_bytes(data)
        with pytest.raises(UserError, match="f: .*a.parquet: is not Parquet: .*; write it again"):
            text_files.read_documents(path, "text", "f")
    pq.write_table(pa.table({}), path)
    with pytest.raises(UserError, match="has no column text; it has none"):
        text_files.read_documents(path, "text", "f")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    for name, fault in (("pipe.txt", "a named pipe"), ("zero.jsonl", "a device"), ("none.parquet", "no such file")):
        with pytest.raises(UserError, match=f"f: .*{name}: .*{fault}"):
            text_files.read_documents(tmp_path / name, "text", "f")


@pytest.mark.parametrize("token", [-1, 2**31, 10**30])
def test_a_token_id_that_no_vocabulary_has_is_refused(tmp_path, token):
    (tmp_path / "ids.json").write_text(json.dumps([[1, 2], [3, token]]))
    assert np.array_equal(text_files.read_token_ids(tmp_path / "ids.json", 1, 2, "f"), [[1, 2]])
    with pytest.raises(UserError, match=f"f: sample 1 of .* has the token id {token}, which no vocabulary has"):
        text_files.read_token_ids(tmp_path / "ids.json", 2, 2, "f")
