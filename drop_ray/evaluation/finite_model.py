"""lm-eval's model of transformers, which names NaN and infinity, and stops at tokens that the model does not have.

lm-eval would rank the choices of a document by the former, and report the accuracy of that. The latter end the process
on a GPU.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from drop_ray.errors import UserError
from drop_ray.models.finite import fault_of


class FiniteModel(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """Keeps, for each task with an answer that is not finite, a line that names it, the document and the cause."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.faults: dict[str, str] = {}

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        ids: list[int] = super().tok_encode(string, *args, **kwargs)
        rows = self.model.get_input_embeddings().weight.shape[0]
        if ids and max(ids) >= rows:
            raise UserError(
                f"evaluation.tasks: a document has the token id {max(ids)} ({string[:40]!a}...), and the model's "
                f"embedding has {rows} rows; give the model the tokenizer that it was trained with"
            )
        return ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        self._check(requests, [likelihood for likelihood, _ in answers])
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        likelihoods: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        self._check(requests, likelihoods)
        return likelihoods

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        with self._watched() as fine:
            texts: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        if not all(fine):
            for request in requests:
                self._keep(request, "text was generated from logits that are not finite")
        return texts

    def _check(self, requests: Sequence[Any], likelihoods: Sequence[float]) -> None:
        for request, likelihood in zip(requests, likelihoods, strict=True):
            if not math.isfinite(likelihood):
                self._keep(request, f"document {request.doc_id} has the log-likelihood {likelihood}")

    @contextmanager
    def _watched(self) -> Iterator[list[torch.Tensor]]:
        """A list that holds, at the end, whether all logits were finite from which a token was chosen."""
        fine: list[torch.Tensor] = []

        def look(_: Any, __: Any, output: Any) -> None:
            last = output.logits[:, -1].isfinite().all()
            # One for the whole call, on the device: nothing waits for it.
            fine[:] = [last if not fine else fine[0] & last.to(fine[0].device)]

        hook = self.model.register_forward_hook(look)
        try:
            yield fine
        finally:
            hook.remove()

    def _keep(self, request: Any, what: str) -> None:
        """Only the first fault of a task: to find its cause takes a forward pass."""
        if request.task_name in self.faults:
            return
        token_ids = torch.tensor([self.tok_encode("".join(text for text in request.args if isinstance(text, str)))])
        cause = fault_of(self.model, token_ids[:, -self.max_length :])
        self.faults[request.task_name] = f"{request.task_name}: {what}: {cause}"
