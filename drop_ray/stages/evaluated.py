"""A loaded variant, held by a worker for all that is asked of it: tasks, texts, and tokens."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch

from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.evaluation import TaskRequest, TaskResult
from drop_ray.evaluation.targets.base_answers import BaseAnswers
from drop_ray.evaluation.tokens.token_model import TokenModel
from drop_ray.job.worker import Worker
from drop_ray.models.location import load_tokenizer
from drop_ray.planning.variants import Variant
from drop_ray.serving.engine import EngineError
from drop_ray.stages.engine_evaluated import EngineEvaluated, EngineRequest
from drop_ray.store import Commit

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# Fields of `evaluation` that are arguments of an Evaluator.
EVALUATOR_SETTINGS = {"batch_size", "seed", "apply_chat_template", "system_instruction"}


class Evaluated(Protocol):
    """A loaded variant. Its worker closes it when it loads something else."""

    @property
    def tokens(self) -> TokenModel:
        """The variant, asked for tokens."""

    def task(self, request: TaskRequest, base: BaseAnswers | None = None) -> TaskResult:
        """The result of a task, tag or group of lm-eval. base: what one with a target is compared with."""

    def text(self, name: str, token_ids: torch.Tensor) -> TaskResult:
        """The perplexity of a text, int64 [num_samples, seq_len]."""

    def close(self) -> None:
        """Let go of what the worker's process does not free by itself."""


def held(worker: Worker, variant: Variant, made: Commit | None, request: EngineRequest | None = None) -> Evaluated:
    """The variant, loaded if the worker does not hold it yet.

    made: its own checkpoint's commit, if it has one. request: `engine_request(run)`, which is None for models in
    transformers.
    """

    def load() -> Evaluated:
        # Base and plans are judged by one backend, whoever asks.
        assert (request is None) == (worker.setup.evaluation.backend == "hf"), "a run has one backend"
        if request is None:
            return _HfEvaluated(worker, variant, made)
        return EngineEvaluated(worker, variant, made, request)

    model: Evaluated = worker.hold(("evaluate", variant), load)
    return model


def asked(
    worker: Worker,
    variant: Variant,
    made: Commit | None,
    request: EngineRequest | None,
    what: str,
    ask: Callable[[Evaluated], Answer],
) -> tuple[Answer, dict[str, float]]:
    """What `ask` gets from the held variant, and the tokens that it took.

    If its engine dies, it is asked again with a fresh one. WorkerFailedError, which begins with `what`, for one that
    dies too often.
    """
    model = held(worker, variant, made, request)
    attempts = 1 if request is None else request.max_attempts
    for attempt in range(1, attempts + 1):
        try:
            counts = model.tokens.counts
            before = replace(counts)
            return ask(model), counts.since(before)
        except EngineError as error:
            model.close()
            logger.warning("%s: its engine is lost, attempt %d of %d: %s", what, attempt, attempts, error)
            if attempt == attempts:
                raise WorkerFailedError(f"{what}: its engine was lost {attempts} times; the last: {error}") from error
    raise AssertionError("there is at least one attempt")


class _HfEvaluated:
    """A variant in transformers."""

    def __init__(self, worker: Worker, variant: Variant, made: Commit | None):
        self._worker, self._settings = worker, worker.setup.evaluation
        self._model = worker.load(variant, made)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._worker.checkpoint().folder)

    @property
    def _known_tokenizer(self) -> Any:
        """None where there is none: tokens can be asked for without."""
        try:
            return self._tokenizer
        except UserError:
            return None

    @property
    def tokens(self) -> TokenModel:
        return self._tokens  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nothing: its memory is that of this process."""

    @cached_property
    def _tokens(self) -> Any:
        from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
        from drop_ray.evaluation.tokens.lengths import evaluated_length

        return HfTokenModel(
            self._model,
            batch_size=self._settings.batch_size,
            max_length=evaluated_length(self._model.config, self._known_tokenizer, self._settings.max_length),
            shares=self._settings.share_prefixes,
        )

    def task(self, request: TaskRequest, base: BaseAnswers | None = None) -> TaskResult:
        progress = self._worker.log_progress("requests")
        result: TaskResult = self._evaluator.evaluate(request, base, self._settings.log_samples, progress)
        return result

    @cached_property
    def _evaluator(self) -> Any:
        from drop_ray.evaluation.harness import Evaluator  # imports lm-eval

        return Evaluator(
            self._model,
            self._tokenizer,
            include_path=self._worker.setup.include_path,
            max_length=self._tokens.max_length,
            tokens=self._tokens,
            **self._settings.model_dump(include=EVALUATOR_SETTINGS),
        )

    def text(self, name: str, token_ids: torch.Tensor) -> TaskResult:
        from drop_ray.evaluation.perplexity import evaluate_perplexity

        self._tokens.counts.add(token_ids.numel())
        token_ids = token_ids.to(self._worker.device)
        progress = self._worker.log_progress("batches")
        return evaluate_perplexity(
            self._model, token_ids, self._settings.batch_size, name, self._tokens.streams, progress
        )
