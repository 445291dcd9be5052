"""YAML of files from outside, as plain values: mappings, lists, text, numbers, booleans and null.

PyYAML reads YAML 1.1, in which `1:20` is 80, `024` is 20 and `2026-01-02` is a date; here they stay the text that
stands there, which is what people mean. A key that stands twice is an error. Aliases are written out, so that no two
places share a value, and what they come to is bounded: ten lines of aliases can stand for a billion values.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from drop_ray.errors import UserError

# Half a second of parsing; the longest of lm-eval's 15000 files has 63 KB.
LONGEST = 1 << 18
DEEPEST = 100
MOST_VALUES = 100_000
# What numbers of programs have; a longer one would be an error of a library that takes it.
INTEGER_BITS = 63
TEXT, MAPPING, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "merge"))
SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
# Readings of a plain word that YAML 1.2 dropped: numbers to the base 60, and a zero in front for the base 8.
OLD_NUMBER = re.compile(r"[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)")
# And words that it takes for what they say.
OLD_TRUTHS = {"on", "off", "yes", "no"}

# By its tag: what makes a value of the text behind it.
Tags = Mapping[str, Callable[[str], Any]]


def parse_yaml(
    text: str, what: str, tags: Tags | None = None, *, last_counts: bool = False, word_keys: bool = False
) -> Any:
    """The value of a YAML document, None if there is none.

    `tags` are taken besides YAML's own. last_counts: of a key that stands twice, take the last, as PyYAML does.
    word_keys: the keys `on`, `off`, `yes` and `no` are words, as in YAML 1.2, and not true or false.
    UserError begins with `what` and says the fault and where it is, without the line itself, which may hold a password.
    """
    if len(text) > LONGEST:
        raise UserError(f"{what}: has {len(text)} characters; no settings need more than {LONGEST}")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Values(loader, tags or {}, last_counts, word_keys).of(node)
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not YAML: {_fault(error, text)}") from error
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """Stops at the depth that a document may have, before the library's own recursion ends."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs give it no types
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Values:
    """Makes values of the nodes of one document."""

    def __init__(self, loader: _Loader, tags: Tags, last_counts: bool, word_keys: bool):
        self._loader, self._tags, self._last_counts, self._word_keys = loader, tags, last_counts, word_keys
        self._left = MOST_VALUES
        self._above: list[yaml.Node] = []

    def of(self, node: yaml.Node) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _refused(node, f"more than {MOST_VALUES} values, with every alias written out")
        if node in self._above:
            raise _refused(node, "an alias stands for what it is part of")
        self._above.append(node)
        value = self._value(node)
        self._above.pop()
        return value

    def _value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return [self.of(item) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
            return self._mapping(node)
        raise _refused(node, f"the tag {node.tag}, which is not taken")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag in self._tags:
            return self._tags[node.tag](node.value)
        if node.tag not in SCALARS:
            raise _refused(node, f"the tag {node.tag}, which is not taken")
        if node.style is None and OLD_NUMBER.fullmatch(node.value):
            return node.value
        try:
            value = self._loader.construct_object(node)
        except (ValueError, LookupError) as error:
            raise _refused(node, f"a value that does not fit its tag {node.tag}") from error
        if type(value) is int and value.bit_length() > INTEGER_BITS:
            raise _refused(node, "a number of more than 64 bits")
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        twice = "a key that stands twice in one mapping"
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                if merged:
                    raise _refused(key_node, twice)
                for source in self._sources(value_node):
                    merged = {**source, **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(key_node, "a key that is no text")
            is_word = self._word_keys and key_node.style is None and key_node.value.lower() in OLD_TRUTHS
            key = key_node.value if is_word else self.of(key_node)
            if key in own and not self._last_counts:
                raise _refused(key_node, twice)
            own[key] = self.of(value_node)
        return {**merged, **own}

    def _sources(self, node: yaml.Node) -> Iterator[dict[Any, Any]]:
        """The mappings that `<<` names; of two with one key, the first counts."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.of(source)
            if not isinstance(value, dict):
                raise _refused(source, "`<<` before what is no mapping")
            yield value


def _refused(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _fault(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"the character #x{ord(text[error.position]):04x} in line {line}"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
