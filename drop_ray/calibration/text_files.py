"""The documents of a text file, and the samples of a file of token ids, as they stand there.

A file of another kind than it says, or with values of another kind, is a UserError with the config's field, the file,
and the line or entry.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from drop_ray.errors import UserError
from drop_ray.reading.files import TEXT_LIMIT, decode, json_lines, read_bytes, read_text
from drop_ray.reading.json_text import parse_json
from drop_ray.text.path_names import shown
from drop_ray.text.units import human_bytes

TEXT_SUFFIXES = (".txt", ".json", ".jsonl", ".parquet")
TOKEN_ID_SUFFIXES = (".json", ".parquet")


def read_documents(path: Path, text_field: str, field: str) -> list[str]:
    """The documents of a text file.

    A .txt file is one document. A .json file is a list and a .jsonl file has one entry per line, each a string or an
    object with `text_field`. A .parquet file has them in the column `text_field`. UserError names `field`, which is the
    config's.
    """
    what = _checked(path, TEXT_SUFFIXES, field)
    if path.suffix == ".txt":
        documents: Any = [read_text(path, what)]
    elif path.suffix == ".parquet":
        column = _parquet_column(path, text_field, what)
        if not _is_text(column.type):
            raise UserError(f"{what}: column {text_field} holds {column.type}, not text; name another column")
        documents = _values(column, what)
    else:
        documents = [_text_of(entry, text_field, f"{what}: {where}") for where, entry in _json_entries(path, what)]
    return [document for document in documents if document]


def read_token_ids(path: Path, num_samples: int, seq_len: int, field: str, *, fewer: bool = False) -> NDArray[np.int32]:
    """Ready samples, int32 [num_samples, seq_len]: the first `num_samples` of the file, each cut to `seq_len`.

    The file is .json with a list of lists of ints, or .parquet with such a column `token_ids`. UserError if there are
    too few samples, unless `fewer` takes those that there are, or if one is too short.
    """
    what, samples = _id_lists(path, field)
    if len(samples) < num_samples and not fewer:
        raise UserError(f"{what} holds {len(samples)} samples, {num_samples} are asked for")
    for number, ids in enumerate(samples[:num_samples]):
        if len(ids) < seq_len:
            raise UserError(
                f"{field}: sample {number} of {path} has {len(ids)} tokens, seq_len is {seq_len}; lower seq_len, or "
                "leave the sample out"
            )
        _check_ids(ids[:seq_len], number, path, field)
    return np.array([ids[:seq_len] for ids in samples[:num_samples]], dtype=np.int32).reshape(-1, seq_len)


def read_token_ids_behind(path: Path, skipped: int, num_samples: int, seq_len: int, field: str) -> NDArray[np.int32]:
    """As `read_token_ids`, of the samples behind the first `skipped`: as many as there are of those long enough.

    int32 [at most num_samples, seq_len].
    """
    _, samples = _id_lists(path, field)
    found = [(number, ids[:seq_len]) for number, ids in enumerate(samples) if len(ids) >= seq_len and number >= skipped]
    for number, ids in found[:num_samples]:
        _check_ids(ids, number, path, field)
    return np.array([ids for _, ids in found[:num_samples]], dtype=np.int32).reshape(-1, seq_len)


def _id_lists(path: Path, field: str) -> tuple[str, list[list[int]]]:
    """What the file is called in messages, and all of its samples."""
    what = _checked(path, TOKEN_ID_SUFFIXES, field)
    if path.suffix == ".parquet":
        samples = _values(_parquet_column(path, "token_ids", what), what)
    else:
        samples = [entry for _, entry in _json_entries(path, what)]
    for number, ids in enumerate(samples):
        if not isinstance(ids, list):
            raise UserError(f"{what} must hold lists of ints, and sample {number} is {shown(ids)}")
        bad = [token for token in ids if type(token) is not int]
        if bad:
            raise UserError(f"{what} must hold lists of ints, and sample {number} has {shown(bad[0])}")
    return what, samples


def _check_ids(ids: list[int], number: int, path: Path, field: str) -> None:
    bad = next((token for token in ids if not 0 <= token < 2**31), None)
    if bad is not None:
        raise UserError(f"{field}: sample {number} of {path} has the token id {bad}, which no vocabulary has")


def _checked(path: Path, suffixes: tuple[str, ...], field: str) -> str:
    """The name of the file in messages. UserError for another suffix."""
    if path.suffix not in suffixes:
        raise UserError(f"{field}: {path} is none of {', '.join(suffixes)}")
    return f"{field}: {path}"


def _json_entries(path: Path, what: str) -> Iterator[tuple[str, Any]]:
    """Where each entry stands, and the entry."""
    text = decode(read_bytes(path, what, TEXT_LIMIT), what)
    if path.suffix == ".jsonl":
        for number, line in json_lines(text):
            yield f"line {number}", parse_json(line, what, line=number)
        return
    entries = parse_json(text, what)
    if not isinstance(entries, list):
        raise UserError(f"{what} must hold a list")
    for number, entry in enumerate(entries):
        yield f"entry {number}", entry


def _text_of(entry: Any, text_field: str, where: str) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and isinstance(entry.get(text_field), str):
        return str(entry[text_field])
    found = f"an object with {', '.join(map(shown, list(entry)[:5]))}" if isinstance(entry, dict) else f"{entry!r:.40}"
    raise UserError(f"{where} must be a string or an object with a text field {text_field}, not {found}")


def _parquet_column(path: Path, name: str, what: str) -> pa.ChunkedArray:
    data = read_bytes(path, what, TEXT_LIMIT)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names
        if names.count(name) != 1:
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise UserError(f"{what} has {'two columns' if name in names else 'no column'} {name}; {has}")
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        if size > TEXT_LIMIT:
            raise UserError(f"{what}: unpacks to {human_bytes(size)}; give a file of at most {human_bytes(TEXT_LIMIT)}")
        return file.read(columns=[name]).column(name)
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{what}: is not Parquet: {reason}; write it again") from error


def _values(column: pa.ChunkedArray, what: str) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: has a text that is not UTF-8; write it again") from error
    return values


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    # A column that is null throughout has no text.
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
