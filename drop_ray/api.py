"""drop_ray from Python: `run`, `plan`, `export` and `inspect` as the commands, `load` and `score` without a store.

run = drop_ray.run("my.yaml")                          # or a RunConfig, or a mapping as in the YAML
run.tables["evaluations"].to_pandas()                  # every table of the report, as pyarrow
run.checkpoints["attention-8"], run.report
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel

from drop_ray import pipeline
from drop_ray.config import RunConfig, load_config, parse_config
from drop_ray.errors import UserError
from drop_ray.exporting.gguf import check_gguf_output
from drop_ray.exporting.gguf import export_gguf as write_gguf
from drop_ray.job.job import Job
from drop_ray.job.opening import open_job
from drop_ray.job.run_store import store_of
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import decoder_layers, drop_lists_of_model, parse_dtype
from drop_ray.models.edited import edited
from drop_ray.models.export import check_new_folder, unfinished
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture
from drop_ray.planning.inspection import Inspection, inspect_model
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.scoring.layers import ResidentLayers
from drop_ray.scoring.sweep import SweepSettings, sweep
from drop_ray.stages.catalog import LAST
from drop_ray.stages.export import provenance_of, write_compared
from drop_ray.store import Store
from drop_ray.text.units import human_bytes

logger = logging.getLogger(__name__)

PARQUET = ".parquet"

Config = RunConfig | Mapping[str, Any] | Path | str


@dataclass(frozen=True)
class Run:
    """The results of a run."""

    folder: str
    """Location of the run's folder in the store."""
    plans: tuple[DropPlan, ...]
    """Drop plans, in the order of the config."""
    checkpoints: Mapping[str, str]
    """Locations of exported and quantized checkpoints, by variant and format."""
    report: str | None
    """Location of report.html; None if the run ended before its last stage."""
    answer: str | None
    """The report's first sentence."""
    tables: Mapping[str, pa.Table]
    """The report's tables by topic, each read when it is asked for; docs/report-tables.md has their columns."""


class Tables(Mapping[str, pa.Table]):
    """The Parquet tables in a run's folder, by name without suffix."""

    def __init__(self, store: Store, folder: str):
        self._store, self._folder = store, folder

    def __getitem__(self, name: str) -> pa.Table:
        try:
            data = self._store.read_file(f"{self._folder}/{name}{PARQUET}")
        except FileNotFoundError as error:
            raise KeyError(f"the run has no table {name}; it has: {', '.join(self)}") from error
        return pq.read_table(pa.BufferReader(data))

    def __iter__(self) -> Iterator[str]:
        names = self._store.list(self._folder)
        return (name.removesuffix(PARQUET) for name in names if name.endswith(PARQUET))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def run(config: Config, until: str = LAST, reuse: bool = False) -> Run:
    """Do the stages up to `until`; units that the store has are not done again. UserError if the config does not fit.

    config: a RunConfig, a mapping as in the YAML, or the path of a YAML file.
    """
    settings = _config(config)
    outcome = pipeline.run(settings, until, reuse)
    store = store_of(settings)
    return Run(
        folder=outcome.folder,
        plans=outcome.plans,
        checkpoints=outcome.checkpoints,
        report=outcome.published.report if outcome.published else None,
        answer=outcome.published.answer if outcome.published else None,
        tables=Tables(store, f"{settings.folder}/tables"),
    )


def plan(config: Config) -> tuple[DropPlan, ...]:
    """The drop plans of a config, in its order. Scores that they need are computed first, unless the store has them."""
    return pipeline.run(_config(config), "plan").plans


def export(config: Config, plan: str | DropPlan, output: Path | str, format: ExportFormat = "dropped") -> Path:
    """Write one checkpoint into the new folder `output`, without Ray; returns the folder.

    plan: a plan, the name of one of the run's plans (scored first if need be), or a plan file. ExportRefusedError, and
    no folder, if the checkpoint does not give the logits of the base's weights with the plan's changes.
    """
    check_new_folder(Path(output))
    source, variant = _source_of(config, plan)
    with unfinished(Path(output)) as folder:
        write_compared(source, variant.drops, folder, format, provenance_of(variant), _tell_export)
    return Path(output)


def export_gguf(config: Config, plan: str | DropPlan, output: Path | str, converter: Path | str) -> Path:
    """Write one plan's model into the new file `output`, for llama.cpp; returns the file.

    plan: as of `export`. converter: `convert_hf_to_gguf.py` of a checkout of llama.cpp, which this Python runs.
    ExportRefusedError, and no file, if it does not have the tensors and settings of the model.
    """
    check_gguf_output(Path(output), Path(converter))
    source, variant = _source_of(config, plan)
    provenance = provenance_of(variant)
    write_gguf(source, variant.drops, Path(output), Path(converter), provenance=provenance, progress=_tell_export)
    return Path(output)


def inspect(
    model: str,
    plan: Path | str | None = None,
    *,
    revision: str | None = None,
    num_tokens: int = 2048,
    batch_size: int = 1,
    allow_unlisted: bool = False,
) -> Inspection:
    """What a model is made of, and what a plan file would leave of it; printed, as `drop-ray inspect` says it.

    model is a folder, s3://bucket/prefix or a Hugging Face name; no weights are read. num_tokens and batch_size are of
    the sequences whose KV cache is reckoned.
    """
    return inspect_model(
        model,
        revision,
        Path(plan) if plan is not None else None,
        num_tokens=num_tokens,
        batch_size=batch_size,
        allow_unlisted=allow_unlisted,
    )


def load(
    path: str | Path, *, dtype: str | None = None, device: str = "cpu", allow_unlisted: bool = False
) -> PreTrainedModel:
    """Load a base or dropped checkpoint for inference; dtype None keeps the checkpoint's own.

    path: a local folder or s3://bucket/prefix; allow_unlisted: accept an architecture that no test covers, if a small
    model of it passes a probe.
    Unlike transformers it refuses a checkpoint with missing or unexpected tensors (UserError) instead of filling
    parameters with random values.
    """
    checkpoint = open_checkpoint(path)
    check_architecture(checkpoint, allow_unlisted)
    return load_model(checkpoint, dtype=parse_dtype(dtype) if dtype else None, device=device)


def score(model: PreTrainedModel, token_ids: torch.Tensor, *, micro_batch: int = 4) -> dict[str, list[float]]:
    """Importance S = 1 - mean cosine of every attention layer, MLP and block; low means redundant.

    token_ids: [num_samples, seq_len]. Returns {"attention" | "mlp" | "block": one float per layer}; a sub-layer that
    the model lacks has nan.
    """
    drops = drop_lists_of_model(model)
    layers = decoder_layers(model)
    source, settings = ResidentLayers(layers), SweepSettings(micro_batch)
    totals: dict[tuple[str, int], float] = defaultdict(float)
    for _, rows in sweep(model, source, token_ids, [range(len(token_ids))], settings, drops):
        for row in rows:
            totals[row.module, row.layer] += row.total
    return {
        module: [totals.get((module, index), float("nan")) / token_ids.numel() for index in range(len(layers))]
        for module in ("attention", "mlp", "block")
    }


def _source_of(config: Config, plan: str | DropPlan) -> tuple[Checkpoint, Variant]:
    """The base's weights with the changes of a plan, and the plan as a variant."""
    settings = _config(config)
    job = open_job(settings)
    chosen = plan if isinstance(plan, DropPlan) else _find_plan(settings, job, plan)
    variant = variant_of(job.checkpoint.identity, chosen)
    return edited(job.checkpoint, variant.edits) if variant.edits else job.checkpoint, variant


def _tell_export(done: int, total: int) -> None:
    logger.info("export: %s of %s", human_bytes(done), human_bytes(total))


def _config(config: Config) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, Mapping):
        return parse_config(config, "config")
    return load_config(config)


def _find_plan(config: RunConfig, job: Job, name: str) -> DropPlan:
    if Path(name).is_file():
        return read_plan(Path(name), job.size.layers, job.checkpoint.identity)
    known = [request.name for request in job.requests] + [given.name for given in job.given_plans]
    if name not in known:
        raise UserError(f"--plan {name}: no such file, and no plan of the run; its plans: {', '.join(known) or 'none'}")
    return next(made for made in pipeline.run(config, "plan").plans if made.name == name)
