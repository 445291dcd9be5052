"""What a task may say of how text is generated, where an engine generates it."""

from collections.abc import Iterable, Mapping
from typing import Any

from drop_ray.errors import UserError
from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog

# Handled by lm-eval's own functions: stops and limits.
OF_LM_EVAL = {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens", "do_sample"}
# Passed on to the engine, for tokens that are drawn.
SAMPLING = {"temperature", "top_p", "top_k", "min_p"}
# Passed on whether tokens are drawn or not.
PENALTIES = {"repetition_penalty"}


def sampling_of(task: str, settings: Mapping[str, Any], seed: int) -> tuple[tuple[str, float], ...]:
    """Settings of the engine for a task's `generation_kwargs`; none take the most probable token.

    As in lm-eval, a temperature draws tokens, and `do_sample: false` takes the most probable one all the same. Raises
    UserError for a setting that an engine does not have.
    """
    unknown = sorted({*settings} - OF_LM_EVAL - SAMPLING - PENALTIES)
    if unknown:
        raise UserError(
            f"evaluation.backend: {task} generates with {unknown[0]} (generation_kwargs), which vllm does not have in "
            "this form; set it to hf"
        )
    draws = settings.get("do_sample")
    draws = settings.get("temperature", 0.0) > 0 if draws is None else draws
    wanted = {name: settings[name] for name in PENALTIES & {*settings}}
    if draws:
        wanted |= {"temperature": 1.0, "seed": seed} | {name: settings[name] for name in SAMPLING & {*settings}}
    return tuple(sorted(wanted.items()))


def check_generation(requests: Iterable[TaskRequest], include_path: str | None) -> None:
    """UserError for a task that generates text in a way that an engine does not have."""
    catalog = Catalog(include_path)
    for request in requests:
        for name, config in catalog.find(request.name).leaves():
            sampling_of(name, config.get("generation_kwargs") or {}, 0)
