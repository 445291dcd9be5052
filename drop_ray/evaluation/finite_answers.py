"""Answers that are NaN or infinite, named by task, document and cause.

lm-eval would rank the choices of a document by them, and report the accuracy of that.
"""

import math
from collections.abc import Sequence
from typing import Any

from drop_ray.errors import UserError


class FiniteAnswers:
    """A mixin of models of lm-eval. `faults` has a line for each task with an answer that is not finite."""

    faults: dict[str, str]
    vocabulary: int
    """Rows of the embedding."""

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        """The token ids of a text. UserError for one that the model lacks: it would end the process on a GPU."""
        if ids and max(ids) >= self.vocabulary:
            raise UserError(
                f"evaluation.tasks: a document has the token id {max(ids)} ({text[:40]!a}...), and the model's "
                f"embedding has {self.vocabulary} rows; give the model the tokenizer that it was trained with"
            )
        return ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        self._check(requests, [likelihood for likelihood, _ in answers])
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        likelihoods: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        self._check(requests, likelihoods)
        return likelihoods

    def _check(self, requests: Sequence[Any], likelihoods: Sequence[float]) -> None:
        for request, likelihood in zip(requests, likelihoods, strict=True):
            if not math.isfinite(likelihood):
                self._keep(request, f"document {request.doc_id} has the log-likelihood {likelihood}")

    def _keep(self, request: Any, what: str) -> None:
        """Only the first fault of a task: to find its cause can take a forward pass."""
        if request.task_name not in self.faults:
            self.faults[request.task_name] = f"{request.task_name}: {what}: {self._cause(request)}"

    def _cause(self, request: Any) -> str:
        raise NotImplementedError
