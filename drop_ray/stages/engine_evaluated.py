"""A variant in an engine that passed the gate, held by a worker for all that is asked of it."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from drop_ray.errors import DropRayError, WorkerFailedError
from drop_ray.evaluation import TaskRequest, TaskResult
from drop_ray.evaluation.targets.base_answers import BaseAnswers
from drop_ray.job.run_state import RunState
from drop_ray.job.worker import Worker
from drop_ray.models.accounting import ModelSize
from drop_ray.models.dropped import read_config
from drop_ray.models.families import DropLists
from drop_ray.models.location import load_tokenizer
from drop_ray.planning.variants import Variant
from drop_ray.serving.checks import Gate
from drop_ray.serving.engine import EngineError, EngineSettings
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.engine_tokens import EngineTokens
from drop_ray.serving.evaluation_preflight import MAX_BATCH, evaluation_kv_bytes
from drop_ray.serving.gate import GateError
from drop_ray.serving.preflight import kv_shards
from drop_ray.stages.engines import gate_text, prompt_tokens, variant_folder
from drop_ray.store import Commit

if TYPE_CHECKING:
    from drop_ray.evaluation.harness import EngineEvaluator

logger = logging.getLogger(__name__)

# Tokens of the prompt whose end the gate asks for twice: more than two blocks of vLLM's cache on a CPU.
LONG_PROMPT = 320


@dataclass(frozen=True)
class EngineRequest:
    """The engines that evaluate the variants of a run."""

    max_length: int
    """Tokens of a sequence at most."""
    device: Literal["cpu", "cuda"]
    """The device that the engines compute on."""
    tensor_parallel: int
    """Number of GPUs of one engine."""
    kv_cache_bytes: int | None
    """Bytes of KV cache of each engine on each device; None leaves it to the engine."""
    size: ModelSize
    """Size of the base."""
    base_drops: DropLists
    """Sub-layers that the run's model lacks already."""
    text: list[list[int]]
    """Calibration samples of equal length that the engines are checked on."""
    max_attempts: int
    """Engines that a unit may lose."""


def engine_request(run: RunState) -> EngineRequest | None:
    """The engines of a run; None if its models are evaluated in transformers."""
    job, execution = run.job, run.job.config.execution
    if job.config.evaluation.backend != "vllm":
        return None
    return EngineRequest(
        max_length=job.evaluated_length,
        device=execution.device,
        tensor_parallel=execution.tensor_parallel,
        kv_cache_bytes=evaluation_kv_bytes(job.config),
        size=job.size,
        base_drops=job.base_drops,
        text=gate_text(run, job.evaluated_length),
        max_attempts=execution.max_attempts,
    )


class EngineEvaluated:
    """A variant in vLLM. The engine starts, and passes the gate, when it is first asked for something.

    EngineError if it does not start, or dies: it starts anew when it is asked again. A variant that does not pass the
    gate, or whose engines die before they did so `max_attempts` times in a row, has no numbers: GateError, or
    WorkerFailedError, is raised at each question, without another start.
    """

    def __init__(self, worker: Worker, variant: Variant, made: Commit | None, request: EngineRequest):
        self._worker, self._variant, self._made, self._request = worker, variant, made, request
        self._opened = ExitStack()
        self._tokens: EngineTokens | None = None
        self._evaluator: EngineEvaluator | None = None
        self._refused: DropRayError | None = None
        self._lost_starts = 0

    @property
    def tokens(self) -> EngineTokens:
        if self._refused is not None:
            raise self._refused
        if self._tokens is None:
            self._tokens = EngineTokens(self._start(), self._request.max_length)
        return self._tokens

    def task(self, request: TaskRequest, base: BaseAnswers | None = None) -> TaskResult:
        tokens = self.tokens
        if self._evaluator is None:
            from drop_ray.evaluation.harness import EngineEvaluator  # imports lm-eval

            worker = self._worker
            settings = worker.setup.evaluation.model_dump(include={"seed", "apply_chat_template", "system_instruction"})
            self._evaluator = EngineEvaluator(
                tokens,
                read_config(worker.checkpoint()),
                load_tokenizer(worker.checkpoint().folder),
                include_path=worker.setup.include_path,
                **settings,
            )
        setup, progress = self._worker.setup, self._worker.log_progress("requests")
        return self._evaluator.evaluate(request, base, setup.evaluation.log_samples, progress)

    def text(self, name: str, token_ids: torch.Tensor) -> TaskResult:
        from drop_ray.evaluation.perplexity import engine_perplexity

        return engine_perplexity(self.tokens, token_ids, self._worker.setup.evaluation.batch_size, name)

    def close(self) -> None:
        """End the engine."""
        self._tokens = self._evaluator = None
        self._opened.close()

    def _start(self) -> EngineProcess:
        try:
            engine = self._started()
        except GateError as error:
            self._refused = error
            self.close()
            raise
        except EngineError as error:
            self.close()
            self._lost_starts += 1
            if self._lost_starts < self._request.max_attempts:
                raise
            self._refused = WorkerFailedError(
                f"{self._variant.name}: {self._lost_starts} engines in a row were lost before they passed the gate; "
                f"the last: {error}"
            )
            raise self._refused from error
        except BaseException:
            self.close()
            raise
        self._lost_starts = 0
        return engine

    def _started(self) -> EngineProcess:
        worker, request, name = self._worker, self._request, self._variant.name
        folder = self._opened.enter_context(variant_folder(worker, self._variant, self._made))
        settings = self._settings(None if folder is None else str(folder))
        tokens, _ = prompt_tokens(worker)
        gate = Gate(
            tokens,
            request.text,
            worker.setup.evaluation.seed,
            request.size,
            kv_shards(worker.checkpoint().config, request.tensor_parallel),
            EngineProcess,
            long=min(LONG_PROMPT, request.max_length),
        )
        expected = gate.expect(settings, f"{name}:")
        engine = EngineProcess(settings, name)
        self._opened.callback(engine.close)
        engine.wait()
        facts, found = gate.check(settings, f"{name}:", engine, expected)
        logger.info(
            "%s: the engine passed the gate (mean difference %.2g over %d tokens); its KV cache holds %s tokens",
            *(name, found["mean_difference"], found["compared_tokens"], facts.kv_tokens),
        )
        return engine

    def _settings(self, folder: str | None) -> EngineSettings:
        request, setup, drops = self._request, self._worker.setup, self._variant.drops
        settings = EngineSettings(
            kind="vllm",
            folder=str(self._worker.checkpoint().folder),
            drops=drops,
            own_drops=request.base_drops,
            dtype=setup.model.dtype,
            device=request.device,
            max_model_len=request.max_length,
            max_batch=MAX_BATCH,
            kv_cache_bytes=request.kv_cache_bytes,
            threads=setup.threads,
            attn_implementation=setup.model.attn_implementation,
            tensor_parallel=request.tensor_parallel,
            # On a CPU compiling takes longer than it saves.
            enforce_eager=request.device == "cpu",
            seed=setup.evaluation.seed,
            evaluates=True,
            prefix_caching=setup.evaluation.share_prefixes,
        )
        if folder is None:
            return settings
        return replace(settings, folder=folder, own_drops=drops, quantized=self._variant.remake is not None)
