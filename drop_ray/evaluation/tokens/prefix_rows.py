"""Which tokens of many requests are computed once: requests in rows that are prefix trees, rows under common prefixes.

A row holds sequences that begin alike, such as a document's context with its choices: what they share is in it once,
and a token attends to its own ancestors only. Rows that begin alike in turn, such as those of a task whose examples are
`first_n`, get that prefix from a KV cache. Only the requests decide all of it, and their order does not matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

# A row is filled until it is a quarter longer than the longest request, or until it has this many tokens. A sequence
# that adds more than this many times what it shares begins a row of its own: the others would only be in its way.
ROW_TOKENS, ROW_GROWTH, MOST_ADDED = 512, 1.25, 4
# Tokens that a prefix of its own must save: as many as a forward pass of one short row takes.
PREFIX_COST = 64

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """Sequences in one row, each token once, in the order of a walk through their prefix tree."""

    tokens: tuple[int, ...]
    """Token ids, without the prefix of the group."""
    positions: tuple[int, ...]
    """Position of each token in its sequences, which counts the prefix of the group."""
    ends: tuple[int, ...]
    """Index after the last descendant of each token: token j attends to token i if i <= j < ends[i]."""
    paths: tuple[tuple[int, ...], ...]
    """For each sequence of the row, the indices in `tokens` of its last judged inputs (`Question.judged`)."""
    questions: tuple[int, ...]
    """Number of each sequence among the questions."""


@dataclass(frozen=True)
class Group:
    """Rows that begin with the same tokens."""

    prefix: Tokens
    """What they begin with; empty if that is nothing worth a pass of its own."""
    rows: tuple[Row, ...]
    """Rows, longest first."""


@dataclass(frozen=True)
class Question:
    """A sequence of inputs, of whose last ones the predictions are wanted."""

    inputs: Tokens
    """Token ids that the model reads, at least one."""
    judged: int
    """Number of last inputs whose predictions are wanted, at least 1."""


def group_rows(
    questions: Sequence[Question], row_tokens: int = ROW_TOKENS, prefix_cost: int = PREFIX_COST
) -> list[Group]:
    """All questions in rows, and the rows in groups, so that few tokens are computed.

    Groups with a prefix come first, in the order of their tokens; the group without one is the last.
    """
    if not questions:
        return []
    order = sorted(range(len(questions)), key=lambda number: (questions[number].inputs, questions[number].judged))
    limit = max(row_tokens, int(ROW_GROWTH * max(len(question.inputs) for question in questions)))
    runs = _runs(questions, order, limit)
    groups, alone = [], []
    for first, last, length in _shared(questions, runs, prefix_cost):
        rows = [_row(questions, run, length) for run in runs[first : last + 1]]
        if length:
            groups.append(Group(questions[runs[first][0]].inputs[:length], _longest_first(rows)))
        else:
            alone += rows
    return [*groups, Group((), _longest_first(alone))] if alone else groups


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # `low` tokens are equal; comparing halves is faster than token by token
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _runs(questions: Sequence[Question], order: Sequence[int], limit: int) -> list[list[int]]:
    """The sorted questions, cut where too little is shared, and where a row would become longer than `limit`."""
    runs: list[list[int]] = []
    before: Tokens = ()
    total = 0
    for number in order:
        inputs = questions[number].inputs
        shared = common(before, inputs)
        added = len(inputs) - shared
        if not runs or total + added > limit or added > MOST_ADDED * shared:
            runs.append([])
            total, added = 0, len(inputs)
        runs[-1].append(number)
        total += added
        before = inputs
    return runs


@dataclass
class _Cluster:
    """Neighbouring rows, and the cheapest way to compute them."""

    first: int
    """Number of its first row."""
    last: int
    """Number of its last row."""
    cut: int
    """Most tokens of a prefix: all of its questions have them, and before their first judged input."""
    saved: int = 0
    """Tokens that its groups save."""
    prefix: int = 0
    """Length of the prefix of all of it; 0 if its parts are computed apart."""
    parts: list["_Cluster"] = field(default_factory=list)
    """The two clusters that it was made of."""


def _shared(
    questions: Sequence[Question], runs: Sequence[Sequence[int]], prefix_cost: int
) -> list[tuple[int, int, int]]:
    """(first row, last row, length of the prefix) of all rows; prefixes are chosen to save the most tokens.

    Neighbouring clusters are merged, those that share the longest prefix first. A merged cluster has a prefix of its
    own if that saves more than the prefixes of its two parts.
    """
    clusters = [_Cluster(row, row, _cut(questions, run)) for row, run in enumerate(runs)]
    shared = [common(questions[a[-1]].inputs, questions[b[0]].inputs) for a, b in pairwise(runs)]
    of_row = list(clusters)  # the cluster of each row that is the first or the last of one
    for row in sorted(range(len(shared)), key=lambda row: (-shared[row], row)):
        left, right = of_row[row], of_row[row + 1]
        merged = _Cluster(left.first, right.last, min(left.cut, right.cut), left.saved + right.saved)
        length = min(shared[row], merged.cut)
        saved = (right.last - left.first) * length - prefix_cost
        if saved > merged.saved:
            merged.saved, merged.prefix = saved, length
        merged.parts = [left, right]
        of_row[left.first] = of_row[right.last] = merged
    return list(_chosen(of_row[0]))


def _cut(questions: Sequence[Question], run: Sequence[int]) -> int:
    before_judged = min(len(questions[number].inputs) - questions[number].judged for number in run)
    # Sorted, the first and the last share what all share.
    return min(before_judged, common(questions[run[0]].inputs, questions[run[-1]].inputs))


def _chosen(root: _Cluster) -> Iterable[tuple[int, int, int]]:
    waiting = [root]
    while waiting:
        cluster = waiting.pop()
        if cluster.prefix or not cluster.parts:
            yield cluster.first, cluster.last, cluster.prefix
        else:
            waiting += reversed(cluster.parts)


def _row(questions: Sequence[Question], run: Sequence[int], prefix: int) -> Row:
    tokens: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    paths = []
    path: list[int] = []  # indices in `tokens` of the last sequence's own tokens
    before: Tokens = ()
    for number in run:
        question = questions[number]
        kept = max(common(before, question.inputs) - prefix, 0)
        for index in path[kept:]:
            ends[index] = len(tokens)
        del path[kept:]
        for position in range(prefix + kept, len(question.inputs)):
            path.append(len(tokens))
            tokens.append(question.inputs[position])
            positions.append(position)
            ends.append(0)
        paths.append(tuple(path[len(path) - question.judged :]))
        before = question.inputs
    for index in path:
        ends[index] = len(tokens)
    return Row(tuple(tokens), tuple(positions), tuple(ends), tuple(paths), tuple(run))


def _longest_first(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (-len(row.tokens), row.tokens)))
