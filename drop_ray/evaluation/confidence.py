"""How sure a model is of its answers to multiple-choice questions, and how far that is from how often it is right."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drop_ray.evaluation.result import DocumentValue

CONFIDENCE = "choice_confidence"
"""Metric of a document: the softmax of the choices' log-likelihoods at the most likely choice."""
NUM_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy over some documents."""

    documents: int
    """Number of documents."""
    accuracy: float
    """Share of the documents whose most likely choice is right."""
    confidence: float
    """Mean confidence."""
    error: float
    """Expected calibration error."""


def calibration_of(confidences: Sequence[float], right: Sequence[bool]) -> Calibration:
    """The expected calibration error in 10 bins of equal width: sum over bins of n_b / N |accuracy_b - confidence_b|.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015); Guo et al. (ICML 2017).
    A confidence on the border of two bins is in the lower. ValueError without documents.
    """
    if not confidences:
        raise ValueError("the calibration error of no documents")
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for confidence, is_right in zip(confidences, right, strict=True):
        bins[max(0, math.ceil(confidence * NUM_BINS) - 1)].append((confidence, is_right))
    count = len(confidences)
    error = math.fsum(
        abs(sum(answer for _, answer in members) - math.fsum(one for one, _ in members)) for members in bins
    )
    return Calibration(count, sum(right) / count, math.fsum(confidences) / count, error / count)


def confidence_values(
    task: str, samples: Sequence[Mapping[str, Any]], values: Sequence[DocumentValue]
) -> Iterator[DocumentValue]:
    """The confidence of every document of a multiple-choice task that reports `acc`.

    samples: lm-eval's. values: those of the same documents, whose rows of `acc` the new rows are like.
    """
    accuracies = {(value.doc_id, value.filter): value for value in values if value.metric == "acc"}
    for sample in samples:
        found = accuracies.get((sample["doc_id"], sample["filter"]))
        likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
        if "acc_mutual_info" in sample["metrics"]:  # lm-eval then also asks for every choice without the question
            likelihoods = likelihoods[: len(likelihoods) // 2]
        if found is not None:
            place = task, found.doc_id, found.doc_hash, found.prompt_hash
            yield DocumentValue(*place, CONFIDENCE, found.filter, _largest_probability(likelihoods))


def _largest_probability(likelihoods: Sequence[float]) -> float | None:
    """1 / sum exp(l_i - max l); None where one is not finite."""
    if not all(map(math.isfinite, likelihoods)):
        return None
    return 1 / math.fsum(math.exp(one - max(likelihoods)) for one in likelihoods)
