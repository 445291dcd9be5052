"""Evaluates a task on as many documents as its target takes: look by look, then lm-eval's own numbers once."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from drop_ray.evaluation.metrics import document_values
from drop_ray.evaluation.targets.base_answers import values_of
from drop_ray.evaluation.targets.remembering import Remembering
from drop_ray.evaluation.targets.target import Document, Pursuit

Results = dict[str, Any]
"""lm-eval's result dictionary, with the samples."""
Run = Callable[[Any, Mapping[str, list[int]]], Results]
"""Evaluates chosen documents of some tasks with a model of lm-eval."""


def pursue(
    run: Run, model: Any, tasks: Mapping[str, Any], pursuits: Sequence[Pursuit], spoiled: Collection[str]
) -> Results:
    """lm-eval's result over the documents that the pursuits took. Few-shot examples are seeded by document.

    spoiled: names of tasks with answers that are not finite, which grows; nothing more is asked of a spoiled request.
    ValueError where a metric turns out not to be in [0, 1].
    """
    remembering = Remembering(model)
    while not spoiled and not all(pursuit.is_over for pursuit in pursuits):
        wanted = by_task(document for pursuit in pursuits for document in pursuit.next_documents())
        samples = run(remembering, wanted)["samples"]
        answered = values_of(
            row for name in wanted for row in document_values(name, samples[name], tasks[name].aggregation())
        )
        for pursuit in pursuits:
            pursuit.take(answered.get((pursuit.metric, pursuit.filter), {}))
    remembering.repeat()
    return run(remembering, by_task(document for pursuit in pursuits for document in pursuit.seen))


def by_task(documents: Iterable[Document]) -> dict[str, list[int]]:
    """Sorted numbers of documents by task, of documents that may be named more than once."""
    found: dict[str, list[int]] = {}
    for task, doc_id in sorted(set(documents)):
        found.setdefault(task, []).append(doc_id)
    return found
