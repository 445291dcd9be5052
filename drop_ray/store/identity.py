"""What makes two computations the same: canonical JSON of their identities, its hash, and a readable difference."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no white space, tuples as lists.

    Raises TypeError for anything without an obvious spelling (callables, sets, paths, objects, NaN). So a default
    `repr`, with an address in it, can never become part of an identity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def json_sha256(value: Any) -> str:
    """The sha256 of the canonical JSON, in hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def fingerprint(value: Any) -> str:
    """The first 16 hex digits (64 bits) of `json_sha256`."""
    return json_sha256(value)[:16]


def difference(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """One line per field that differs: `model.dtype: bfloat16 -> float32`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            field = f"{path}.{key}" if path else str(key)
            if key not in before:
                yield f"{field}: (absent) -> {canonical_json(after[key])}"
            elif key not in after:
                yield f"{field}: {canonical_json(before[key])} -> (absent)"
            else:
                yield from difference(before[key], after[key], field)
    elif _plain(before) != _plain(after):
        yield f"{path}: {canonical_json(before)} -> {canonical_json(after)}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys of an identity must be strings: {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of an identity: {value!r}")
