"""What may stand in a file from outside: anything at all, values of the wrong kind, and valid files with a fault."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

TEXT = st.text(max_size=30) | st.sampled_from(
    ["", "\ufeff", "\u2028", "\x85", "\x00", "../../x", "/dev/zero", "x" * 300, "1:20", "024", "2026-01-02", "NaN", "~"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, 1_000_000_000])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=15
)
ALIASES = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12)
)
# Each once took a reader's breath away.
CLASSICS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"[" * 5000 + b"]" * 5000,
    b"- " * 5000,
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"a": 1, "a": 2}',
    b'{"a": NaN, "b": -Infinity, "c": 1e999}',
    b'"\\ud800"',
    b"9" * 5000,
    b"a: &a [*a]",
    ALIASES.encode(),
    b"!!python/object/apply:os.system [ls]",
    b"PAR1" + bytes(100) + b"PAR1",
    bytes(8),
    b"\xff" * 64,
]
ANYTHING = st.binary(max_size=300) | st.sampled_from(CLASSICS)


def json_files(valid):
    """Anything, JSON of any shape, and the valid value with a field replaced, and with bytes replaced."""
    return ANYTHING | VALUES.map(_json) | _altered(valid).map(_json) | _damaged(_json(valid))


def json_line_files(valid):
    """As `json_files`, of several lines."""
    lines = st.lists(json_files(valid) | st.just(b""), max_size=4)
    return lines.flatmap(
        lambda found: st.sampled_from([b"\n", b"\r\n", b"\r", "\u2028".encode()]).map(lambda end: end.join(found))
    )


def yaml_files(valid):
    """As `json_files`, in YAML."""
    return ANYTHING | VALUES.map(_yaml) | _altered(valid).map(_yaml) | _damaged(_yaml(valid))


def overrides(*keys):
    """Anything, and values for keys that are there and that are not."""
    names = st.sampled_from(keys) | TEXT
    return ANYTHING | st.tuples(names, VALUES.map(_yaml)).map(
        lambda pair: pair[0].encode(errors="replace") + b"=" + pair[1]
    )


def parquet_files(*tables):
    """Anything, the valid tables, and these with bytes replaced."""
    files = []
    for table in tables:
        file = io.BytesIO()
        pq.write_table(pa.table(table), file)
        files.append(file.getvalue())
    return ANYTHING | st.sampled_from(files) | st.sampled_from(files).flatmap(_damaged)


def _json(value):
    return json.dumps(value).encode()


def _yaml(value):
    return yaml.safe_dump(value).encode()


@st.composite
def _altered(draw, valid):
    """The valid value with what stands at one place replaced."""
    if isinstance(valid, dict) and valid and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(valid)))
        return {**valid, key: draw(_altered(valid[key]))}
    if isinstance(valid, list) and valid and draw(st.integers(0, 3)):
        position = draw(st.integers(0, len(valid) - 1))
        return [*valid[:position], draw(_altered(valid[position])), *valid[position + 1 :]]
    if isinstance(valid, dict) and draw(st.booleans()):
        return {**valid, draw(TEXT): draw(VALUES)}
    return draw(VALUES)


@st.composite
def _damaged(draw, data):
    """The bytes with some replaced, cut out or put in."""
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(len(data), start + 20)))
    return data[:start] + draw(st.binary(max_size=8)) + data[stop:]
