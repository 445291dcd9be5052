"""From text to packed token samples: documents are tokenized, each followed by EOS, joined and cut into samples.

There is no BOS and no padding, as in He et al., arXiv 2406.15786: every token of every sample counts in the scores.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from drop_ray.errors import UserError
from drop_ray.store.identity import canonical_json

SCHEMA = pa.schema([("sample", pa.int32()), ("token_ids", pa.list_(pa.int32()))])
TEXT_SUFFIXES = (".txt", ".json", ".jsonl", ".parquet")
DOCUMENTS_AT_ONCE = 256

# Texts -> one list of token ids each, without special tokens.
Tokenize = Callable[[list[str]], list[list[int]]]


def read_documents(path: Path, text_field: str, field: str) -> list[str]:
    """The documents of a text file.

    A .txt file is one document. A .json file is a list and a .jsonl file has one entry per line, each a string or an
    object with `text_field`. A .parquet file has them in the column `text_field`. UserError names `field`, which is the
    config's.
    """
    _check_file(path, TEXT_SUFFIXES, field)
    if path.suffix == ".txt":
        documents: Any = [path.read_text(encoding="utf-8")]
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        if text_field not in table.column_names:
            raise UserError(f"{field}: {path} has no column {text_field}; it has {', '.join(table.column_names)}")
        documents = table.column(text_field).to_pylist()
    else:
        documents = [_text_of(entry, text_field, path, field) for entry in _json_entries(path, field)]
    return [document for document in documents if document]


def shuffled(documents: list[str], seed: int | None) -> list[str]:
    """The documents in a seeded order, or in their own order if the seed is None."""
    if seed is None:
        return documents
    order = documents.copy()
    random.Random(seed).shuffle(order)
    return order


def pack(
    documents: Iterable[str],
    tokenize: Tokenize,
    eos_token_id: int,
    num_samples: int,
    seq_len: int,
    *,
    field: str,
) -> NDArray[np.int32]:
    """The first `num_samples` blocks of the joined documents: int32 [num_samples, seq_len].

    No more documents are taken than needed, a few hundred at a time. If they are too few, UserError says how many
    samples the text gives.
    """
    wanted = num_samples * seq_len
    token_ids: list[int] = []
    remaining = iter(documents)
    while batch := list(islice(remaining, DOCUMENTS_AT_ONCE)):
        for ids in tokenize(batch):
            token_ids += [*ids, eos_token_id]
        if len(token_ids) >= wanted:
            return np.array(token_ids[:wanted], dtype=np.int32).reshape(num_samples, seq_len)
    raise UserError(
        f"{field}: the text gives {len(token_ids) // seq_len} samples of {seq_len} tokens, {num_samples} are asked "
        "for; give more text, or lower num_samples or seq_len"
    )


def read_token_ids(path: Path, num_samples: int, seq_len: int, field: str) -> NDArray[np.int32]:
    """Ready samples, int32 [num_samples, seq_len]: the first `num_samples` of the file, each cut to `seq_len`.

    The file is .json with a list of lists of ints, or .parquet with such a column `token_ids`. UserError if there are
    too few samples, or if one is too short.
    """
    _check_file(path, (".json", ".parquet"), field)
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        if "token_ids" not in table.column_names:
            raise UserError(f"{field}: {path} has no column token_ids; it has {', '.join(table.column_names)}")
        samples = table.column("token_ids").to_pylist()
    else:
        samples = _json_entries(path, field)
    if not all(isinstance(ids, list) and all(type(token) is int for token in ids) for ids in samples):
        raise UserError(f"{field}: {path} must hold lists of ints")
    if len(samples) < num_samples:
        raise UserError(f"{field}: {path} holds {len(samples)} samples, {num_samples} are asked for")
    short = next((index for index, ids in enumerate(samples[:num_samples]) if len(ids) < seq_len), None)
    if short is not None:
        raise UserError(f"{field}: sample {short} of {path} has {len(samples[short])} tokens, seq_len is {seq_len}")
    return np.array([ids[:seq_len] for ids in samples[:num_samples]], dtype=np.int32)


def check_vocabulary(token_ids: NDArray[np.int32], vocab_size: int, field: str) -> None:
    if token_ids.min() < 0 or token_ids.max() >= vocab_size:
        bad = int(token_ids.max() if token_ids.max() >= vocab_size else token_ids.min())
        raise UserError(f"{field}: token id {bad} is outside the model's vocabulary of {vocab_size}")


def token_identity(token_ids: NDArray[np.int32]) -> str:
    """sha256 of the token ids and their shape, which identifies calibration samples however they were made."""
    digest = hashlib.sha256(canonical_json(list(token_ids.shape)).encode())
    digest.update(np.ascontiguousarray(token_ids, dtype="<i4").tobytes())
    return digest.hexdigest()


def to_table(token_ids: NDArray[np.int32]) -> pa.Table:
    samples = pa.array(range(len(token_ids)), pa.int32())
    return pa.table([samples, pa.array(token_ids.tolist(), pa.list_(pa.int32()))], schema=SCHEMA)


def from_table(table: pa.Table) -> NDArray[np.int32]:
    """The samples of a table, int32 [num_samples, seq_len]."""
    return np.array(table.column("token_ids").to_pylist(), dtype=np.int32)


def _check_file(path: Path, suffixes: tuple[str, ...], field: str) -> None:
    if not path.is_file():
        raise UserError(f"{field}: {path} is not a file")
    if path.suffix not in suffixes:
        raise UserError(f"{field}: {path} is none of {', '.join(suffixes)}")


def _json_entries(path: Path, field: str) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{field}: {path} is not {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(entries, list):
        raise UserError(f"{field}: {path} must hold a list")
    return entries


def _text_of(entry: Any, text_field: str, path: Path, field: str) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and isinstance(entry.get(text_field), str):
        return str(entry[text_field])
    raise UserError(f"{field}: {path} must hold strings or objects with a text field {text_field}")
