"""A checked run: the config, the model's files and sizes, the tasks and plans. Whatever can be refused is refused here.

Nothing is computed and nothing is written; weights are not read, but for the blocks that identify the model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray import calibration
from drop_ray.config import PerplexitySpec, RunConfig, resolve_path
from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.models.accounting import ModelSize, measure
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, check_tensors, drop_lists_of, parse_dtype, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.location import load_tokenizer, locate_model
from drop_ray.planning.plans import BASE, DropPlan, read_plan
from drop_ray.planning.requests import PlanRequest, plan_requests
from drop_ray.store import Store, open_store


@dataclass(frozen=True)
class Job:
    """tasks: identity of each lm-eval task by name; texts: sha256 of each perplexity text's file by name."""

    config: RunConfig
    store: Store
    checkpoint: Checkpoint
    size: ModelSize
    base_drops: DropLists
    requests: tuple[PlanRequest, ...]
    given_plans: tuple[DropPlan, ...]
    task_requests: tuple[TaskRequest, ...]
    tasks: Mapping[str, Mapping[str, Any]]

    @property
    def include_path(self) -> str | None:
        path = self.config.evaluation.include_path
        return str(resolve_path(path)) if path else None

    @property
    def run_folder(self) -> str:
        return f"runs/{self.config.name}"

    @property
    def base_plan(self) -> DropPlan:
        return self.complete(DropPlan(BASE, self.base_drops.attn, self.base_drops.mlp, BASE))

    def complete(self, plan: DropPlan, calibration_identity: str | None = None) -> DropPlan:
        """The plan with the model it is for and what is expected to be left."""
        return DropPlan(
            **{
                **plan.__dict__,
                "model_identity": self.checkpoint.identity,
                "calibration_identity": calibration_identity or plan.calibration_identity,
                "parameters": self.size.kept_parameters(plan.drops),
                "kv_bytes_per_token": self.size.kv_bytes_per_token(plan.drops),
            }
        )


def open_job(config: RunConfig) -> Job:
    """Check everything that can be checked without computing. UserError names the field and the remedy."""
    store = open_store(config.store, config.execution.store_options)
    store.check_writable()
    checkpoint = open_checkpoint(locate_model(str(resolve_path(config.model.path)), config.model.revision))
    base_drops = drop_lists_of(checkpoint)
    skeleton = build_skeleton(
        read_config(checkpoint), base_drops, parse_dtype(config.model.dtype), config.model.attn_implementation
    )
    check_tensors(skeleton, checkpoint)
    size = measure(skeleton)
    _check_lengths(config, size)
    requests = tuple(plan_requests(config.plans, size.num_layers, base_drops))
    given = _read_given_plans(config, size, checkpoint, base_drops)
    _check_names(config, requests, given)
    task_requests = tuple(
        TaskRequest(task.name, task.num_fewshot, task.limit or config.evaluation.limit)
        for task in config.evaluation.tasks
    )
    return Job(
        config=config,
        store=store,
        checkpoint=checkpoint,
        size=size,
        base_drops=base_drops,
        requests=requests,
        given_plans=given,
        task_requests=task_requests,
        tasks=_resolve_tasks(config, task_requests),
    )


def load_calibration(job: Job) -> Any:
    """The run's calibration samples, int32 [num_samples, seq_len]; tokenizes. UserError if the text is too short."""
    config = job.config.calibration
    if config.token_ids is not None:
        field = "calibration.token_ids"
        samples = calibration.read_token_ids(resolve_path(config.token_ids), config.num_samples, config.seq_len, field)
    else:
        assert config.source is not None
        field = "calibration.source"
        samples = _pack_text(
            job, config.source, config.text_field, config.num_samples, config.seq_len, config.shuffle_seed, field
        )
    calibration.check_vocabulary(samples, job.checkpoint.config["vocab_size"], field)
    return samples


def load_perplexity_text(job: Job, spec: PerplexitySpec) -> Any:
    """The samples of one perplexity text, int32 [num_samples, seq_len]."""
    field = f"evaluation.perplexity ({spec.name})"
    return _pack_text(job, spec.source, spec.text_field, spec.num_samples, spec.seq_len, None, field)


def file_sha256(path: Path, field: str) -> str:
    if not path.is_file():
        raise UserError(f"{field}: {path} is not a file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack_text(
    job: Job, source: str, text_field: str, num_samples: int, seq_len: int, shuffle_seed: int | None, field: str
) -> Any:
    tokenizer = load_tokenizer(job.checkpoint.folder)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{field}: the tokenizer of {job.checkpoint.folder} has no EOS token to join documents with")

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    documents = calibration.read_documents(resolve_path(source), text_field, field)
    return calibration.pack(
        documents, tokenize, tokenizer.eos_token_id, num_samples, seq_len, shuffle_seed=shuffle_seed, field=field
    )


def _check_lengths(config: RunConfig, size: ModelSize) -> None:
    lengths = {"calibration.seq_len": config.calibration.seq_len}
    lengths |= {f"evaluation.perplexity ({text.name}).seq_len": text.seq_len for text in config.evaluation.perplexity}
    if config.evaluation.max_length is not None:
        lengths["evaluation.max_length"] = config.evaluation.max_length
    for field, length in lengths.items():
        if size.max_positions is not None and length > size.max_positions:
            raise UserError(f"{field}: {length} is more than the model's {size.max_positions} positions")


def _read_given_plans(
    config: RunConfig, size: ModelSize, checkpoint: Checkpoint, base_drops: DropLists
) -> tuple[DropPlan, ...]:
    plans = []
    for spec in config.plans:
        if spec.file is None:
            continue
        plan = read_plan(resolve_path(spec.file), size.num_layers, checkpoint.identity)
        lacking = {*base_drops.attn} - {*plan.drop_attn} or {*base_drops.mlp} - {*plan.drop_mlp}
        if lacking:
            raise UserError(
                f"plan {spec.file} must also list what the model already lacks, such as layer {min(lacking)}"
            )
        plans.append(plan)
    return tuple(plans)


def _check_names(config: RunConfig, requests: tuple[PlanRequest, ...], given: tuple[DropPlan, ...]) -> None:
    names = [BASE, *(request.name for request in requests), *(plan.name for plan in given)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"plans: two plans are called {twice[0]}; rename the one from a file")
    unknown = [name for name in config.export if name not in names] if isinstance(config.export, tuple) else []
    if unknown:
        raise UserError(f"export: no plan is called {unknown[0]}; plans: {', '.join(names[1:])}")


def _resolve_tasks(config: RunConfig, requests: tuple[TaskRequest, ...]) -> dict[str, Mapping[str, Any]]:
    if not requests:
        return {}
    from drop_ray.evaluation.tasks import resolve_tasks  # imports lm-eval

    path = config.evaluation.include_path
    resolved = resolve_tasks(requests, str(resolve_path(path)) if path else None)
    return {name: task.identity for name, task in resolved.items()}
