"""From a config to a job that can start: whatever can be refused is refused here.

Nothing is computed and nothing is written but the hashes of the model's files, on this machine. All weights are read
to identify the model, unless they were hashed before.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from drop_ray.config import RunConfig, resolve_path, texts_of
from drop_ray.config.evaluation import TaskSpec
from drop_ray.config.screening import PrecisionTarget
from drop_ray.config.serving import AT_LOAD
from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.targets.target import Target
from drop_ray.job.budget_limits import check_budgets
from drop_ray.job.change_sections import change_sections
from drop_ray.job.job import Job
from drop_ray.job.metric_checks import check_head, check_metrics, check_ranking
from drop_ray.job.run_store import store_of
from drop_ray.models.accounting import ModelSize, measure
from drop_ray.models.checkpoint import Checkpoint, check_no_wrapper, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, parse_dtype, read_config
from drop_ray.models.export_contents import check_full
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import companion_files
from drop_ray.models.fitting import check_chat_template, check_generation_config, check_tokenizer
from drop_ray.models.loading import Weights
from drop_ray.models.location import load_tokenizer, locate_model
from drop_ray.models.probe import check_architecture
from drop_ray.planning.plans import BASE, DropPlan, read_plan
from drop_ray.planning.requests import PlanRequest, plan_requests
from drop_ray.planning.sensitivity import consensus_name, one_shot
from drop_ray.scoring.metrics.metric import swept
from drop_ray.serving.evaluation_preflight import check_evaluation
from drop_ray.serving.preflight import check_serving
from drop_ray.store.hash_memory import HashMemory
from drop_ray.store.node_cache import cache_root
from drop_ray.text.naming import first_twice

if TYPE_CHECKING:
    from drop_ray.evaluation.tasks.resolving import ResolvedTask

# Fields that training checkpoints must share, since their scores are compared layer by layer, on the same token ids.
COMPARABLE = ("num_hidden_layers", "hidden_size", "vocab_size")


def open_job(config: RunConfig) -> Job:
    """Check everything that can be checked without computing. UserError names the field and the remedy."""
    store = store_of(config)
    store.check_writable()
    hashes = HashMemory(cache_root(config.execution.cache_dir))
    checkpoint, skeleton = _open_model(config, config.model.main_revision, hashes)
    earlier = {
        revision: _open_earlier(config, revision, checkpoint, hashes) for revision in config.model.revisions[:-1]
    }
    base_drops = drop_lists_of(checkpoint)
    if config.export != "none" and "llm-drop" in config.export_formats:
        check_full(checkpoint, "export_formats")
    if config.export != "none" or config.quantization:
        companion_files(checkpoint.folder)  # what a checkpoint would be refused for after all scores were taken
    _check_alone(config, checkpoint)
    size = measure(skeleton)
    _check_parts(config, checkpoint, skeleton.get_input_embeddings().num_embeddings)
    _check_lengths(config, size)
    for section in change_sections():
        section.check(config, checkpoint)
    check_metrics(config, skeleton)
    check_serving(config, checkpoint.location, checkpoint.config, size, base_drops)
    check_evaluation(config, checkpoint, size, base_drops)
    requests = tuple(plan_requests(config.plans, size.layers, base_drops, config.scoring.metrics[0]))
    check_ranking(requests, size.layers)
    check_budgets(requests, config, checkpoint, size, base_drops)
    given = _read_given_plans(config, size, checkpoint, base_drops)
    _check_names(config, requests, given)
    task_requests = tuple(
        _task_request(task, task.limit or config.evaluation.limit) for task in config.evaluation.tasks
    )
    tasks = _resolve_tasks(config, task_requests)
    _check_acceptance(config, tasks)
    return Job(
        config=config,
        store=store,
        checkpoint=checkpoint,
        earlier=earlier,
        size=size,
        base_drops=base_drops,
        requests=requests,
        given_plans=given,
        task_requests=task_requests,
        tasks={name: task.identity for name, task in tasks.items()},
        task_files={name: task.file for name, task in tasks.items() if task.file},
    )


def _open_model(config: RunConfig, revision: str | None, hashes: HashMemory) -> tuple[Checkpoint, PreTrainedModel]:
    """A checkpoint whose tensors fit its configuration, and its skeleton."""
    model = config.model
    try:
        options = config.s3_options(model.path)
        checkpoint = open_checkpoint(locate_model(model.location, revision), options, hashes=hashes)
        check_architecture(checkpoint, model.allow_unlisted)
        skeleton = build_skeleton(
            read_config(checkpoint), drop_lists_of(checkpoint), parse_dtype(model.dtype), model.attn_implementation
        )
        check_head(config, checkpoint, skeleton)
        Weights(skeleton, checkpoint)
    except UserError as error:
        if not model.revisions:
            raise
        raise UserError(f"model.revisions: {revision}: {error}") from error
    return checkpoint, skeleton


def _open_earlier(config: RunConfig, revision: str, main: Checkpoint, hashes: HashMemory) -> Checkpoint:
    """An earlier training checkpoint, whose layers can be compared with those of the run's model."""
    checkpoint, _ = _open_model(config, revision, hashes)
    known = [
        *((field, checkpoint.config.get(field), main.config.get(field)) for field in COMPARABLE),
        ("drop lists", drop_lists_of(checkpoint).as_identity(), drop_lists_of(main).as_identity()),
    ]
    for field, own, wanted in known:
        if own != wanted:
            raise UserError(
                f"model.revisions: {revision} has {field} {own}, {config.model.main_revision} has {wanted}; "
                "name training checkpoints of one model"
            )
    return checkpoint


def _check_alone(config: RunConfig, checkpoint: Checkpoint) -> None:
    """UserError for what is done with the language model of a multimodal checkpoint only where it is alone."""
    asked = {
        "quantization": bool(config.quantization),
        "evaluation.backend: vllm": config.evaluation.backend == "vllm",
        "serving.engine: vllm": config.serving is not None and config.serving.engine == "vllm",
    }
    for what in (name for name, is_asked in asked.items() if is_asked):
        check_no_wrapper(checkpoint, what)


def _check_parts(config: RunConfig, checkpoint: Checkpoint, rows: int) -> None:
    """UserError if the tokenizer, the embedding of that many rows, and other files of the model do not fit together."""
    folder, location = checkpoint.folder, checkpoint.location
    check_generation_config(folder, location)
    wanted_by = _tokenized(config)
    if not wanted_by:
        return
    try:
        tokenizer = load_tokenizer(folder)
    except UserError as error:
        field, *others = wanted_by
        also = f" (and {', '.join(others)})" if others else ""
        raise UserError(f"{field}{also}: {error}; or {wanted_by[field]}") from error
    check_tokenizer(tokenizer, rows, location)
    if config.evaluation.tasks and config.evaluation.apply_chat_template:
        check_chat_template(tokenizer, location)


def _tokenized(config: RunConfig) -> dict[str, str]:
    """The fields that need the model's tokenizer, each with what does without."""
    remedy = "give ready token ids (`token_ids`) in place of text"
    fields = {field: remedy for field, sized in texts_of(config).items() if sized.text.reads_text}
    tasks = {"evaluation.tasks": "leave out the tasks, which lm-eval puts as text"} if config.evaluation.tasks else {}
    return fields | tasks


def _check_lengths(config: RunConfig, size: ModelSize) -> None:
    lengths = {f"{field}.seq_len": sized.seq_len for field, sized in texts_of(config).items()}
    if config.evaluation.divergence is not None and config.evaluation.divergence.seq_len is not None:
        lengths["evaluation.divergence.seq_len"] = config.evaluation.divergence.seq_len
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
        plan = read_plan(resolve_path(spec.file), size.layers, checkpoint.identity)
        lacking = {*base_drops.attn} - {*plan.drop_attn} or {*base_drops.mlp} - {*plan.drop_mlp}
        if lacking:
            raise UserError(
                f"plan {spec.file} must also list what the model already lacks, such as layer {min(lacking)}"
            )
        plans.append(plan)
    return tuple(plans)


def _check_names(config: RunConfig, requests: tuple[PlanRequest, ...], given: tuple[DropPlan, ...]) -> None:
    asked = [request.name for request in requests]
    if config.calibration.has_consensus:
        asked += [consensus_name(request.name) for request in one_shot(requests, swept(config.scoring.metrics))]
    plans = [BASE, *asked, *(plan.name for plan in given)]
    names, exported, known_to = [*plans], [*plans], {}
    for section in change_sections():
        known_to[section.field] = [*names]
        made = section.names(config, names)
        names += made
        exported += made if section.is_exported else []
    at_load = config.serving.fp8_at_load if config.serving else ()
    measured = [f"{name}-{AT_LOAD}" for name in exported if at_load == "all" or name in at_load]
    twice = first_twice([*names, *measured])
    if twice is not None:
        raise UserError(f"plans: two plans are called {twice}; rename the one from a file, or give a `name`")
    drafts = config.serving.drafts if config.serving else None
    choices = [
        ("export", config.export, exported),
        ("serving.plans", config.serving.plans if config.serving else "all", names),
        ("serving.drafts.plans", drafts.plans if drafts else "all", names),
        ("serving.fp8_at_load", at_load, exported),
        *(
            (f"{section.field} ({line.label}).plans", line.plans, known_to[section.field])
            for section in change_sections()
            for line in section.lines(config)
        ),
    ]
    for field, chosen, known in choices:
        unknown = [name for name in chosen if name not in known] if isinstance(chosen, tuple) else []
        if unknown:
            raise UserError(f"{field}: no plan is called {unknown[0]}; plans: {', '.join(known[1:])}")


def _task_request(task: TaskSpec, limit: int | PrecisionTarget | None) -> TaskRequest:
    """The request of a task, whose limit is a number of documents or a target."""
    if isinstance(limit, PrecisionTarget):
        return TaskRequest(task.name, task.num_fewshot, target=Target(limit.within, limit.confidence))
    return TaskRequest(task.name, task.num_fewshot, limit)


def _resolve_tasks(config: RunConfig, requests: tuple[TaskRequest, ...]) -> "Mapping[str, ResolvedTask]":
    if not requests:
        return {}
    from drop_ray.evaluation.tasks.resolving import resolve_tasks  # imports lm-eval

    path = config.evaluation.include_path
    folder = str(resolve_path(path)) if path else None
    if config.evaluation.backend == "vllm":
        from drop_ray.evaluation.tasks.generation_settings import check_generation

        check_generation(requests, folder)
    return resolve_tasks(requests, folder, allow_code=config.evaluation.allow_task_code)


def _check_acceptance(config: RunConfig, tasks: "Mapping[str, ResolvedTask]") -> None:
    """UserError if `accept` is about a task that has no accuracy of its own."""
    name = config.accept.metric
    identity = tasks[name].identity if name in tasks else {}
    if name in identity.get("tags", ()):
        raise UserError(
            f"accept.metric: {name} stands for several tasks; take average, or name one in evaluation.tasks"
        )
    kinds = {task.get("output_type") for task in identity.get("configs", {}).values()}
    if kinds == {"loglikelihood_rolling"}:
        raise UserError(f"accept.metric: {name} measures perplexity, which has no points; take kl, or another task")
