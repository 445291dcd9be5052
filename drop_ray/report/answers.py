"""What became of single answers: which were right and are wrong now.

A task's answers are right or wrong where its primary metric is 0 or 1 on every document.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from drop_ray.report.results import Results
from drop_ray.report.statistics import documents_by_task, primary_tasks


@dataclass(frozen=True)
class FlipRow:
    """Answers of a variant that differ from the base's, on the documents that both have."""

    variant: str
    """Name of the variant."""
    task: str
    """Name of the task."""
    metric: str
    """The primary metric, 1 for a right answer."""
    documents: int
    """Documents that both have."""
    right_to_wrong: int
    """Documents that the base answers rightly and the variant wrongly."""
    wrong_to_right: int
    """Documents that the variant answers rightly and the base wrongly."""
    p_value: float
    """Exact two-sided p of McNemar's test: how likely so uneven counts are if both directions are as likely."""

    @property
    def flipped(self) -> float:
        """Share of the documents whose answer became right or wrong."""
        return (self.right_to_wrong + self.wrong_to_right) / self.documents


def flips(results: Results) -> Iterator[FlipRow]:
    """A row for each variant and task whose answers are right or wrong."""
    documents = documents_by_task(results)
    for task in primary_tasks(results):
        for variant in results.variants[1:]:
            own, of_base = (
                documents.get((name, task.task, task.metric), {}) for name in (variant.name, results.variants[0].name)
            )
            pairs = [(of_base[one], own[one]) for one in own.keys() & of_base.keys()]
            if not pairs or not {value for pair in pairs for value in pair} <= {0.0, 1.0}:
                continue
            lost, gained = sum(pair == (1, 0) for pair in pairs), sum(pair == (0, 1) for pair in pairs)
            yield FlipRow(variant.name, task.task, task.metric, len(pairs), lost, gained, mcnemar(lost, gained))


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p of McNemar's test: twice the smaller tail of Binomial(lost + gained, 1/2), 1 at most."""
    count, least = lost + gained, min(lost, gained)
    term = tail = 1
    for number in range(1, least + 1):
        term = term * (count - number + 1) // number
        tail += term
    return min(1.0, 2 * math.exp(math.log(tail) - count * math.log(2)))
