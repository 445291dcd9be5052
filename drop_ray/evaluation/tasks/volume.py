"""How many tokens a task is: those that its requests ask for, and those that are computed where prefixes are shared.

A request is a context and a target; a model computes all of it but the last token, whose successor nobody asks for.
Counted are tokens through the layers, which is what evaluation costs; padding is not counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drop_ray.evaluation.tokens.token_model import Continuation

NUMBERS = ("documents", "requests", "asked", "alone", "shared", "cached", "generated")


@dataclass(frozen=True)
class TaskVolume:
    """The work of one task on one model, of all of its documents."""

    documents: int
    """Documents."""
    requests: int
    """Requests: one for each choice of a document, or one for each text that is generated."""
    asked: int
    """Tokens of all requests, each with the whole of its context."""
    alone: int
    """Tokens computed where only equal inputs are computed once, as lm-eval does for choices of one token."""
    shared: int
    """Tokens computed where a document computes what its requests begin with once, and a task its fixed examples."""
    cached: int
    """Tokens computed by an engine that keeps the prefixes of earlier requests, in whole blocks."""
    generated: int
    """Tokens that are generated at most, one after the other."""
    basis: str
    """What the numbers are taken from: all `requests`, a `sample` of them, or `published` sizes."""

    @property
    def mean_length(self) -> float:
        """Mean tokens of a request."""
        return self.asked / self.requests if self.requests else 0.0

    def computed(self, backend: str, share_prefixes: bool) -> int:
        """Tokens of prompts that the backend `hf` or `vllm` computes."""
        if not share_prefixes:
            return self.alone if backend == "hf" else self.asked
        return self.shared if backend == "hf" else self.cached


def total(volumes: Sequence[TaskVolume]) -> TaskVolume:
    """Of the tasks of a group together; at least one."""
    bases = {volume.basis for volume in volumes}
    sums = {name: sum(getattr(volume, name) for volume in volumes) for name in NUMBERS}
    return TaskVolume(**sums, basis=bases.pop() if len(bases) == 1 else "sample")


def volume_of(
    documents: Sequence[Sequence[Continuation]], *, num_documents: int, fixed_examples: bool, block: int
) -> TaskVolume:
    """The volume of a task of `num_documents`, from the requests of some of its documents, at least of one.

    `fixed_examples` says whether all documents have the same few-shot examples. `block` is the number of tokens that an
    engine caches together. What is counted once for a task is not multiplied by its documents.
    """
    requests = [request for document in documents for request in document]
    scale = num_documents / len(documents)
    contexts = [request.context for request in requests]
    begins = _alike(min(contexts), max(contexts))  # what the first and the last in order have in common, all have
    once = begins if fixed_examples else 0
    kept = begins // block * block
    trees = sum(_distinct_prefixes(document) for document in documents)
    alone = sum(len(one) for document in documents for one in {_computed(request) for request in document})
    return TaskVolume(
        documents=num_documents,
        requests=round(len(requests) * scale),
        asked=round(sum(len(request.context) + len(request.target) for request in requests) * scale),
        alone=round(alone * scale),
        shared=round((trees - once * len(documents)) * scale + once),
        cached=round((_cached(requests, block) - kept) * scale + kept),
        generated=0,
        basis="requests" if num_documents == len(documents) else "sample",
    )


def _computed(request: Continuation) -> tuple[int, ...]:
    """The tokens that go through the model."""
    return request.context + request.target[:-1]


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Number of tokens that both begin with."""
    shorter = min(len(one), len(other))
    return next((index for index in range(shorter) if one[index] != other[index]), shorter)


def _new_tokens(sequences: Iterable[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every sequence in order of its tokens, with how many it begins with as one before it does.

    In that order no earlier sequence has more in common with it than the one right before it.
    """
    ordered = sorted(sequences)
    yield ordered[0], 0
    for before, one in pairwise(ordered):
        yield one, _alike(before, one)


def _distinct_prefixes(document: Sequence[Continuation]) -> int:
    """Nodes of the tree of a document's requests."""
    return sum(len(one) - known for one, known in _new_tokens(map(_computed, document)))


def _cached(requests: Sequence[Continuation], block: int) -> int:
    """Tokens that an engine computes if equal prefixes meet.

    The log-probability of the target's first token needs the context's last one computed.
    """
    contexts = {request.context + request.target: len(request.context) for request in requests}
    computed = 0
    for one, known in _new_tokens(request.context + request.target for request in requests):
        computed += len(one) - min(known, contexts[one] - 1) // block * block
    return computed
