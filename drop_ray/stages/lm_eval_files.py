"""lm-eval's own files of every variant, in the layout of its EvaluationTracker, for the tools around it.

`lm-eval/<variant>/results_<time>.json` has what `simple_evaluate` returns, `samples_<task>_<time>.jsonl` a line per
document with prompt and responses. The time is that of the variant's last evaluation, so that a report that is written
anew writes the same files. What depends on the machine is left out, or null.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

from drop_ray.job.artifacts import LOGGED_SAMPLES
from drop_ray.job.job import Job
from drop_ray.job.run_files import RunFiles
from drop_ray.report.results import grouped
from drop_ray.stages.report_evaluations import Named
from drop_ray.store.tables import read_table

FOLDER = "lm-eval"
# Of lm-eval's result dictionary, the parts that are by task.
BY_TASK = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")

Lines = Sequence[str]


def write_lm_eval_files(job: Job, run_files: RunFiles, evaluated: Sequence[Named]) -> None:
    """Write the files of every variant with a task, and remove those that an earlier report wrote and this one not."""
    tasks = [one for one in evaluated if "results" in one.result.raw]
    written = set()
    for variant, found in grouped(tasks, lambda one: one.variant).items():
        time = max(datetime.fromisoformat(one.commit.created) for one in found)
        hashes = {}
        for one in found:
            for task, lines in _samples(job, one).items():
                name = f"{FOLDER}/{variant}/samples_{_in_name(task)}_{_time_in_name(time)}.jsonl"
                run_files.write(name, "".join(f"{line}\n" for line in lines).encode())
                written.add(name)
                hashes[task] = _hash_of(lines)
        name = f"{FOLDER}/{variant}/results_{_time_in_name(time)}.json"
        content = lm_eval_results(job, variant, found, time, hashes)
        run_files.write(name, json.dumps(content, indent=2, ensure_ascii=False).encode())
        written.add(name)
    for name in run_files.under(FOLDER):
        if name not in written:
            run_files.remove(name)


def lm_eval_results(
    job: Job, variant: str, found: Iterable[Named], time: datetime, hashes: Mapping[str, str]
) -> dict[str, Any]:
    """What lm-eval would write of one variant: all of its tasks together, with the fields of `simple_evaluate`."""
    merged: dict[str, dict[str, Any]] = {}
    for one in found:
        for part in BY_TASK:
            if part in one.result.raw:
                merged.setdefault(part, {}).update(one.result.raw[part])
    settings = job.config.evaluation
    system = settings.system_instruction
    return {
        **merged,
        "config": {
            "model": settings.backend,
            "model_args": {"pretrained": variant, "dtype": job.config.model.dtype},
            "batch_size": settings.batch_size,
            "batch_sizes": [],
            "device": None,
            "use_cache": None,
            "limit": settings.limit if isinstance(settings.limit, int) else None,
            "bootstrap_iters": None,
            "gen_kwargs": None,
            "random_seed": settings.seed,
            "numpy_seed": settings.seed,
            "torch_seed": settings.seed,
            "fewshot_seed": settings.seed,
        },
        "git_hash": None,
        "date": time.timestamp(),
        "pretty_env_info": None,
        "transformers_version": version("transformers"),
        "lm_eval_version": version("lm_eval"),
        "upper_git_hash": None,
        "task_hashes": dict(hashes),
        "model_source": settings.backend,
        "model_name": variant,
        "model_name_sanitized": variant,
        "system_instruction": system,
        "system_instruction_sha": None if system is None else hashlib.sha256(system.encode()).hexdigest(),
        "fewshot_as_multiturn": settings.apply_chat_template,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": None,
    }


def _samples(job: Job, one: Named) -> dict[str, Lines]:
    """The lines of each task; none where the artifact has no samples."""
    if LOGGED_SAMPLES not in one.commit.outputs:
        return {}
    with job.store.discarded_if_corrupt(one.commit):
        table = read_table(job.store, one.commit, LOGGED_SAMPLES)
    rows: Iterator[tuple[str, str]] = zip(table["task"].to_pylist(), table["line"].to_pylist(), strict=True)
    return {task: [line for _, line in pairs] for task, pairs in grouped(rows, lambda row: row[0]).items()}


def _hash_of(lines: Lines) -> str:
    """As `EvaluationTracker.save_results_aggregated` takes it."""
    samples = map(json.loads, lines)
    text = "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def _in_name(task: str) -> str:
    """A task's name in a file's name, with what means a folder replaced as lm-eval replaces it in a model's."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", task)


def _time_in_name(time: datetime) -> str:
    """`2026-11-29T04-15-10`, as lm-eval's names have it."""
    return time.replace(tzinfo=None).isoformat().replace(":", "-")
