"""YAML from outside: what stands there is what is meant, once, and in bounded time."""

import datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from drop_ray.errors import UserError
from drop_ray.reading.yaml_text import LONGEST, parse_yaml

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
LEAVES = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 10)
)


@settings(max_examples=50)
@given(VALUES)
def test_what_yaml_writes_is_read_back(value):
    assert parse_yaml(yaml.safe_dump(value), "x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02 03:04:05", "2026-01-02 03:04:05"),
        ("1:20", "1:20"),
        ("1:20.5", "1:20.5"),
        ("024", "024"),
        ("-012", "-012"),
        ("=", "="),
        ("0", 0),
        ("-12", -12),
        ("9223372036854775807", 2**63 - 1),
        ("100_000", 100_000),
        ("0x1F", 31),
        ("1.5e+3", 1500.0),
        ("1e-3", "1e-3"),  # YAML 1.1 wants a point; fields of numbers take the text
        ("yes", True),
        ("~", None),
        ("'1:20'", "1:20"),
        ("", None),
        ("# nothing", None),
    ],
)
def test_plain_words(text, value):
    found = parse_yaml(text, "x")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3", "a key that stands twice in one mapping in line 3, column 1"),
        ("a: {<<: {b: 1}, <<: {b: 2}}", "a key that stands twice in one mapping in line 1, column 17"),
        ("[" * 5000, "more than 100 levels in line 1, column 101"),
        ("- " * 5000, "more than 100 levels in line 1, column 201"),
        (BOMB, "more than 100000 values, with every alias written out in line 1, column"),
        (MERGE_BOMB, "more than 100000 values, with every alias written out in line 1, column"),
        ("&a [*a]", "an alias stands for what it is part of in line 1, column 1"),
        ("a: [1, 2\nb: 3", "expected ',' or ']', but got ':' in line 2, column 2"),
        ("a: *b", "found undefined alias 'b' in line 1, column 4"),
        ("a\n---\nb", "but found another document in line 2, column 1"),
        ("a: \x00", "the character #x0000 in line 1"),
        ("? [1]\n: 2", "a key that is no text in line 1, column 3"),
        ("!!python/object:os.system x", "the tag tag:yaml.org,2002:python/object:os.system, which is not taken"),
        ("!!set {a}", "the tag tag:yaml.org,2002:set, which is not taken in line 1, column 1"),
        ("!!timestamp x", "the tag tag:yaml.org,2002:timestamp, which is not taken in line 1, column 1"),
        ("!!int x", "a value that does not fit its tag tag:yaml.org,2002:int in line 1, column 1"),
        ("!!bool x", "a value that does not fit its tag tag:yaml.org,2002:bool in line 1, column 1"),
        ("!!int _", "a value that does not fit its tag tag:yaml.org,2002:int in line 1, column 1"),
        ("<<: [1]", "`<<` before what is no mapping in line 1, column 6"),
        ("9223372036854775808", "a number of more than 64 bits in line 1, column 1"),
        ("1" * 5000, "a value that does not fit its tag tag:yaml.org,2002:int in line 1, column 1"),
    ],
)
def test_a_fault_is_named_with_its_place(text, fault):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "a.yaml")
    assert str(caught.value).startswith("a.yaml is not YAML: ")
    assert fault in str(caught.value)


def test_a_fault_does_not_show_the_line():
    with pytest.raises(UserError) as caught:
        parse_yaml("password: hunter2: x", "a.yaml")
    assert "hunter2" not in str(caught.value)


def test_a_long_text_is_refused_before_it_is_parsed():
    with pytest.raises(UserError, match=rf"^a\.yaml: has {LONGEST + 1} characters"):
        parse_yaml("-" * (LONGEST + 1), "a.yaml")


def test_aliases_and_merges_are_written_out():
    found = parse_yaml("a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [{x: 4}, *a]}", "x")
    assert found["b"] == {"x": 1, "y": [2]}
    assert found["c"] == {"x": 3, "y": [2]}
    assert found["d"] == {"x": 4, "y": [2]}
    # No two places share a value, so that one can be set without the other.
    assert found["b"] is not found["a"]
    assert found["c"]["y"] is not found["a"]["y"]


def test_tags_of_the_caller_and_the_last_of_two_keys():
    assert parse_yaml("a: !function m.f", "x", {"!function": str.upper}) == {"a": "M.F"}
    assert parse_yaml("a: 1\na: 2", "x", last_counts=True) == {"a": 2}


def test_no_value_is_a_date():
    assert not isinstance(parse_yaml("- 2026-01-02", "x")[0], datetime.date)


def test_keys_may_be_words_that_were_truths_once():
    text = "{on: refitted, 'no': no, yes: 1, true: 2}"
    assert parse_yaml(text, "x", word_keys=True) == {"on": "refitted", "no": False, "yes": 1, True: 2}
    assert parse_yaml("on: 1", "x") == {True: 1}
    with pytest.raises(UserError, match="a key that stands twice"):
        parse_yaml("{on: 1, 'on': 2}", "x", word_keys=True)
