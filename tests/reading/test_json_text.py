"""JSON from outside: the values that everything after can take, or an error that says where the fault is."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drop_ray.errors import UserError
from drop_ray.reading.json_text import parse_json, parse_json_object

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
LEAVES = st.none() | st.booleans() | st.integers() | FINITE | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@settings(max_examples=50)
@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text, "x") == parse_json(text.encode(), "x") == value


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1,\n "b" 2}', "is not JSON: Expecting ':' delimiter in line 2, column 6"),
        ("", "is not JSON: Expecting value in line 1, column 1"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "the key 'c' stands twice in one object; remove one"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[-1e400]", "the number -1e400 is too large"),
        ("1" * 101, f"the number {'1' * 40}... has 101 digits"),
        ("1" * 5000, f"the number {'1' * 40}... has 5000 digits"),
        ("[" * 101 + "]" * 101, "is nested deeper than 100 levels"),
        ("[" * 5000, "is nested deeper than 100 levels"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "is nested deeper than 100 levels"),
        ('"\\ud83d"', "holds one half of a surrogate pair (\\ud800 to \\udfff), which is no text"),
        (b'{"a":\n "\xe9"}', "line 2 is not UTF-8 (byte 0xE9); save the file as UTF-8"),
    ],
)
def test_a_fault_is_named_with_its_place(text, fault):
    with pytest.raises(UserError) as caught:
        parse_json(text, "plan a.json")
    assert str(caught.value) == f"plan a.json: {fault}"


def test_what_is_just_allowed():
    assert parse_json(b"\xef\xbb\xbf[1]", "x") == [1]
    assert parse_json("9" * 100, "x") == 10**100 - 1
    assert parse_json('"\\ud83d\\ude00"', "x") == "\U0001f600"
    assert json.dumps(parse_json("[" * 100 + "]" * 100, "x")) == "[" * 100 + "]" * 100
    assert len(parse_json("[" + "[1]," * 1000 + "[]]", "x")) == 1001
    assert math.isnan(parse_json("NaN", "x", allow_nan=True))
    assert parse_json("[1e999]", "x", allow_nan=True) == [math.inf]


def test_lines_are_those_of_the_file():
    with pytest.raises(UserError, match=r"^x: is not JSON: Expecting value in line 7, column 2$"):
        parse_json("[", "x", line=7)
    with pytest.raises(UserError, match=r"^x: NaN is not a number \(line 7\)$"):
        parse_json("NaN", "x", line=7)


def test_an_object_is_wanted():
    assert parse_json_object('{"a": [1]}', "x") == {"a": [1]}
    with pytest.raises(UserError, match="^x: must be a JSON object, with braces around it$"):
        parse_json_object("[1]", "x")
