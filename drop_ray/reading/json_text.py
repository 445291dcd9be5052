"""JSON of files from outside, as values that everything after can take.

Stricter than the library: a key that stands twice, NaN, numbers beyond any use, nesting without end and halves of
surrogate pairs are errors. Each would be taken in silence, and become another value or a traceback later.
"""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from drop_ray.errors import UserError
from drop_ray.reading.files import decode, read_bytes

DEEPEST = 100
# A tokenizer's `model_max_length` has 31 digits. So many still fit a float.
LONGEST_INTEGER = 100
SHOWN = 40
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class _FaultError(ValueError):
    """A value that JSON allows and we do not."""


def parse_json(data: bytes | str, what: str, *, line: int = 1, allow_nan: bool = False) -> Any:
    """The value of a JSON text. UserError, which begins with `what`, says the fault and where it is.

    line: number of the text's first line in its file. allow_nan: take NaN and Infinity, which are no JSON.
    """
    text = decode(data, what) if isinstance(data, bytes) else data
    try:
        value = (_LENIENT if allow_nan else _STRICT).decode(text)
        _check_depth(value, text)
        if HALF_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}, column {error.colno}"
        raise UserError(f"{what}: is not JSON: {error.msg} in {where}") from error
    except _FaultError as error:
        raise UserError(f"{what}: {error}" + (f" (line {line})" if line > 1 else "")) from error
    except RecursionError as error:
        raise UserError(f"{what}: is nested deeper than {DEEPEST} levels") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{what}: holds one half of a surrogate pair (\\ud800 to \\udfff), which is no text") from error
    return value


def parse_json_object(data: bytes | str, what: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """As `parse_json`; anything but an object is a UserError."""
    value = parse_json(data, what, allow_nan=allow_nan)
    if not isinstance(value, dict):
        raise UserError(f"{what}: must be a JSON object, with braces around it")
    return value


def read_json(path: Path, what: str) -> Any:
    """The value of a JSON file of settings. UserError, which begins with `what`, in the cases of `parse_json`."""
    return parse_json(read_bytes(path, what), what)


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """As `read_json`; anything but an object is a UserError."""
    return parse_json_object(read_bytes(path, what), what)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _FaultError(f"the key {twice[:SHOWN]!a} stands twice in one object; remove one")
    return values


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise _FaultError(f"the number {digits[:SHOWN]}... has {len(digits)} digits")
    return int(digits)


def _float(text: str, *, allow_nan: bool) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")) and not allow_nan:
        raise _FaultError(f"the number {text[:SHOWN]} is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _FaultError(f"{name} is not a number")


def _check_depth(value: Any, text: str) -> None:
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise _FaultError(f"is nested deeper than {DEEPEST} levels")
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]


_decoder = partial(json.JSONDecoder, object_pairs_hook=_object, parse_int=_integer)
_STRICT = _decoder(parse_float=partial(_float, allow_nan=False), parse_constant=_no_constant)
_LENIENT = _decoder(parse_float=partial(_float, allow_nan=True))
