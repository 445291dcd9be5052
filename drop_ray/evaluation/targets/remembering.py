"""A model that answers from memory what it was asked before, so that a task's end costs no second computation."""

import hashlib
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from lm_eval.utils import handle_non_serializable


class Remembering:
    """Wraps a model of lm-eval. What it is asked once is computed and kept; asked again, each answer is given back.

    Each answer is given back once, in the order in which equal requests were answered: answers may be sampled.
    """

    def __init__(self, model: Any):
        self._model = model
        self._answers: dict[str, deque[Any]] = {}
        self._repeats = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def repeat(self) -> None:
        """From now on, answers are given back."""
        self._repeats = True

    def loglikelihood(self, requests: list[Any], **other: Any) -> list[Any]:
        return self._answer(requests, self._model.loglikelihood, other)

    def loglikelihood_rolling(self, requests: list[Any], **other: Any) -> list[Any]:
        return self._answer(requests, self._model.loglikelihood_rolling, other)

    def generate_until(self, requests: list[Any], **other: Any) -> list[Any]:
        return self._answer(requests, self._model.generate_until, other)

    def _answer(self, requests: list[Any], ask: Callable[..., list[Any]], other: dict[str, Any]) -> list[Any]:
        keys = [_key(request) for request in requests]
        if self._repeats:
            return [self._answers[key].popleft() for key in keys]
        answers = ask(requests, **other)
        for key, answer in zip(keys, answers, strict=True):
            self._answers.setdefault(key, deque()).append(answer)
        return answers


def _key(request: Any) -> str:
    """A hash: prompts of thousands of documents are not kept a second time."""
    text = json.dumps([request.request_type, request.task_name, request.args], default=handle_non_serializable)
    return hashlib.sha256(text.encode()).hexdigest()
