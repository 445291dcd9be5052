"""The stage evaluate: every task and every text on every variant."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from drop_ray.config import perplexity_field
from drop_ray.evaluation import TaskRequest, TaskResult
from drop_ray.job import steps
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.job.worker import Worker
from drop_ray.planning.variants import Variant, distinct
from drop_ray.stages.engine_evaluated import EngineRequest, engine_request
from drop_ray.stages.evaluated import Evaluated, asked
from drop_ray.stages.evaluation_cost import evaluation_cost
from drop_ray.stages.evaluation_files import write_result
from drop_ray.stages.screening import kept
from drop_ray.stages.targets import base_answers, in_turns, targeted_base
from drop_ray.store import Commit, Step


@dataclass(frozen=True)
class EvaluationUnit(Unit):
    """One task or text on one variant."""

    variant: Variant
    """The variant that is evaluated."""
    of: str
    """Name of the task or text."""
    task: TaskRequest | None = None
    """The lm-eval task; None for a text."""
    token_ids: torch.Tensor | None = None
    """Token ids of the text, int64 [num_samples, seq_len], set when the unit is sent; None for a task."""
    made: Commit | None = None
    """Commit of the variant's own checkpoint, if it has one; set when the unit is sent."""
    base_step: Step | None = None
    """The base's step of the task, for a task with a target; None otherwise."""
    base: Commit | None = None
    """The commit of that step; set when the unit is sent."""
    engine: EngineRequest | None = None
    """The engine that evaluates it; None for transformers; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def bound(self, run: RunState) -> "EvaluationUnit":
        token_ids = run.texts[perplexity_field(self.of)] if self.task is None else None
        base = run.ledger.commit_of(self.base_step) if self.base_step else None
        engine = engine_request(run)
        return replace(self, token_ids=token_ids, made=run.made(self.variant), base=base, engine=engine)

    def work(self, worker: Worker) -> Commit:
        def ask(model: Evaluated) -> TaskResult:
            if self.task is not None:
                return model.task(self.task, base)
            assert self.token_ids is not None
            return model.text(self.of, self.token_ids)

        base = base_answers(worker, self.base)
        result, measured = asked(worker, self.variant, self.made, self.engine, self.name, ask)
        return _commit(worker, self, result, measured)


def _run(run: RunState) -> None:
    evaluate(run, [run.base, *run.variants])


def evaluate(run: RunState, variants: Sequence[Variant]) -> None:
    """Evaluate every task and text on every variant that is kept. Equal variants are evaluated once."""
    requests = {request.name: request for request in run.job.task_requests}
    units = [
        EvaluationUnit(
            *(f"{variant.name} on {name}", step, f"evaluate {name}", variant, name, requests.get(name)),
            base_step=targeted_base(run.job, variant, name),
        )
        for variant in distinct(kept(run, variants))
        for name, step in steps.evaluation_steps(run.job, variant).items()
    ]
    stage = ENGINE_STAGE if run.job.config.evaluation.backend == "vllm" else STAGE
    for turn in in_turns(units):
        run.complete(stage, turn)


def _workers(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    return variant_workers(run, [unit.variant for unit in todo if isinstance(unit, EvaluationUnit)])


def variant_workers(run: RunState, variants: Sequence[Variant]) -> WorkerRequest:
    """Workers that load the variants whole, in transformers.

    Variants with a checkpoint of their own need processes of their own. All variants of one call do, or none.
    """
    job = run.job
    if remake := variants[0].remake:
        return WorkerRequest(remake.kind, environment=remake.environment(job.config.execution.device))
    largest = max(job.size.kept_parameters(variant.drops) for variant in variants)
    return WorkerRequest(model_bytes=largest * job.size.bytes_per_parameter)


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    variants = [unit.variant for unit in todo if isinstance(unit, EvaluationUnit)]
    first, *_ = steps.evaluation_steps(run.job, run.base)
    return evaluation_cost(run.job, line.removeprefix("evaluate "), variants, loads=line == f"evaluate {first}")


def _commit(worker: Worker, unit: EvaluationUnit, result: TaskResult, measured: Mapping[str, float]) -> Commit:
    with tempfile.TemporaryDirectory() as folder:
        return worker.commit(unit.step, write_result(Path(folder), result), measured)


def engine_workers(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    """Engines run in processes of their own, whatever the variants are."""
    del todo
    execution = run.job.config.execution
    return WorkerRequest("engines", num_gpus=execution.tensor_parallel if execution.device == "cuda" else 0)


STAGE = Stage("evaluate", "units (variant x task)", _run, workers=_workers, cost=_cost)
# A plan that fails the gate, or whose engine dies again and again, is named, and the others are evaluated.
ENGINE_STAGE = replace(STAGE, workers=engine_workers, goes_on=True)
