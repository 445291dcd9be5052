"""The actor: loads what a unit needs, keeps it for the next unit, and commits each unit to the store itself.

One kind of actor does every stage, since starting a process and importing the libraries takes longer than many a unit.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from drop_ray.calibration import packing
from drop_ray.errors import WorkerFailedError
from drop_ray.evaluation import TaskResult
from drop_ray.evaluation.perplexity import evaluate_perplexity
from drop_ray.job.artifacts import CHECKPOINT, DOCUMENTS, METRICS, SAMPLES, SCORE_SCHEMA, SCORES
from drop_ray.job.versions import full_versions
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import parse_dtype
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer, locate_model
from drop_ray.runtime.logs import WorkerInfo, describe_this_worker, log_progress
from drop_ray.runtime.units import EvaluationUnit, ExportUnit, ScoreUnits, Unit, WorkerSetup
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.store import Commit, Step
from drop_ray.store.node_cache import NodeCache
from drop_ray.store.tables import read_table, write_table

# Of a GPU's free memory, when a model is spread over several; the rest is for activations.
FREE_FRACTION = 0.9


class Worker:
    """Holds at most one model: the scorer of a drop state, or a plan that is being evaluated."""

    def __init__(self, setup: WorkerSetup):
        self._setup = setup
        # Ray sets no devices for a worker without GPUs, and such a worker would see all of them.
        self._device = "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") and torch.cuda.is_available() else "cpu"
        self._cache = NodeCache(setup.cache_dir, setup.cache_bytes)
        self._checkpoints: dict[str | None, Checkpoint] = {}
        self._samples: tuple[str, torch.Tensor] | None = None
        self._held: object = None
        self._scorer: Scorer | None = None
        self._model: PreTrainedModel | None = None
        self._evaluator: Any = None

    def start(self) -> WorkerInfo:
        """Find the model's files, and check that they are those the driver saw."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        setup, info = self._setup, describe_this_worker()
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
        self._checkpoint = self._checkpoint_of(None)
        return info

    def run(self, unit: Unit) -> list[Commit]:
        """Do a unit and commit it; returns the commits. What a worker that was lost had committed is not done again."""
        if isinstance(unit, ScoreUnits):
            return self._score_missing(unit)
        done = self._setup.store.find(unit.step)
        if done is not None:
            return [done]
        return [self._do(unit)]

    def _do(self, unit: Unit) -> Commit:
        if isinstance(unit, EvaluationUnit):
            return self._evaluate(unit)
        assert isinstance(unit, ExportUnit)
        return self._export(unit)

    def _score_missing(self, units: ScoreUnits) -> list[Commit]:
        found = {step.path: self._setup.store.find(step) for _, steps in units.ranges for step in steps.values()}
        missing = tuple(
            (samples, {gap: step for gap, step in steps.items() if found[step.path] is None})
            for samples, steps in units.ranges
        )
        done = [commit for commit in found.values() if commit is not None]
        left = tuple((samples, steps) for samples, steps in missing if steps)
        return [*done, *self._score(replace(units, ranges=left))] if left else done

    def _score(self, units: ScoreUnits) -> list[Commit]:
        scorer = self._scorer_of(units.drops, units.streamed, units.revision)
        token_ids = self._samples_of(units.calibration)
        gaps = tuple(sorted({gap for _, steps in units.ranges for gap in steps}))
        # The states of a large wave wait on the host: a device that cannot hold the model cannot hold them either.
        states = "cpu" if units.streamed else None
        scoring = self._setup.scoring
        settings = SweepSettings(scoring.micro_batch, gaps, self._setup.wave_bytes, states, scoring.metrics)
        steps = dict(units.ranges)
        commits = []
        for samples, rows in scorer.score(token_ids, list(steps), settings, log_progress()):
            for gap, step in steps[samples].items():
                table = pa.Table.from_pylist([asdict(row) for row in rows if row.gap == gap], SCORE_SCHEMA)
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / SCORES
                    write_table(table, path)
                    commits.append(self._commit(step, {SCORES: path}))
        return commits

    def _evaluate(self, unit: EvaluationUnit) -> Commit:
        model = self._model_of(unit)
        if unit.token_ids is not None:
            token_ids = unit.token_ids.to(self._device)
            result = evaluate_perplexity(model, token_ids, self._setup.evaluation.batch_size, unit.name)
        else:
            result = self._evaluator_of(model).evaluate(unit.task)
        return self._commit_result(unit.step, result)

    def _export(self, unit: ExportUnit) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / CHECKPOINT
            export_checkpoint(
                self._checkpoint, unit.drops, output, format=unit.format, provenance=dict(unit.provenance)
            )
            return self._commit(unit.step, {CHECKPOINT: output})

    def _checkpoint_of(self, revision: str | None) -> Checkpoint:
        """The run's model, or an earlier training checkpoint: opened when first asked for."""
        if revision not in self._checkpoints:
            model = self._setup.model
            place = revision or model.main_revision
            location = locate_model(model.location, place)
            cache = self._cache if self._setup.cache_dir else None
            checkpoint = open_checkpoint(location, self._setup.model_options, cache=cache)
            identity = self._setup.earlier_identities[revision] if revision else self._setup.model_identity
            if checkpoint.identity != identity:
                name = f"{model.path} at {place}" if place else model.path
                raise WorkerFailedError(
                    f"model.path: {name} on {describe_this_worker().node} is not the model that the driver has, "
                    "or it changed since; give every node the same files"
                )
            self._checkpoints[revision] = checkpoint
        return self._checkpoints[revision]

    def _samples_of(self, commit: Commit) -> torch.Tensor:
        """The calibration samples, int64 [num_samples, seq_len]; read once, every sample range needs them."""
        if self._samples is None or self._samples[0] != commit.step.path:
            token_ids = packing.from_table(read_table(self._setup.store, commit, SAMPLES))
            self._samples = commit.step.path, torch.from_numpy(token_ids).long()
        return self._samples[1]

    def _scorer_of(self, drops: DropLists, streamed: bool, revision: str | None) -> Scorer:
        if self._scorer is None or self._held != (drops, streamed, revision):
            self._release()
            self._scorer = Scorer(
                self._checkpoint_of(revision),
                drops,
                dtype=parse_dtype(self._setup.model.dtype),
                attn_implementation=self._setup.model.attn_implementation,
                placement="streamed" if streamed else "resident",
                device=self._device,
            )
            self._held = drops, streamed, revision
        return self._scorer

    def _model_of(self, unit: EvaluationUnit) -> PreTrainedModel:
        if self._model is None or self._held != unit.model_key:
            self._release()
            self._model = self._load(unit)
            self._held = unit.model_key
        return self._model

    def _load(self, unit: EvaluationUnit) -> PreTrainedModel:
        return load_model(
            self._checkpoint,
            unit.drops,
            dtype=parse_dtype(self._setup.model.dtype),
            device=self._device,
            attn_implementation=self._setup.model.attn_implementation,
            memory=_memory_of_gpus(),
        )

    def _evaluator_of(self, model: PreTrainedModel) -> Any:
        if self._evaluator is None:
            from drop_ray.evaluation.harness import Evaluator  # imports lm-eval

            settings = self._setup.evaluation.model_dump(
                include={"batch_size", "seed", "apply_chat_template", "system_instruction", "max_length"}
            )
            tokenizer = load_tokenizer(self._checkpoint.folder)
            self._evaluator = Evaluator(model, tokenizer, include_path=self._setup.include_path, **settings)
        return self._evaluator

    def _release(self) -> None:
        """Before another model is loaded: two may not fit."""
        self._scorer = self._model = self._evaluator = self._held = None

    def _commit_result(self, step: Step, result: TaskResult) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            metrics, documents = Path(folder) / METRICS, Path(folder) / DOCUMENTS
            values = {"metrics": [asdict(metric) for metric in result.metrics], "raw": result.raw}
            metrics.write_text(json.dumps(values, indent=1, sort_keys=True))
            write_table(result.documents, documents)
            return self._commit(step, {METRICS: metrics, DOCUMENTS: documents})

    def _commit(self, step: Step, outputs: Mapping[str, Path]) -> Commit:
        provenance = {"versions": full_versions(), "device": self._device, "node": describe_this_worker().node}
        return self._setup.store.commit(step, outputs, provenance=provenance)


def _memory_of_gpus() -> dict[int | str, int] | None:
    """Bytes that a model may take of each of this worker's GPUs, if it has several."""
    count = torch.cuda.device_count() if os.environ.get("CUDA_VISIBLE_DEVICES") else 0
    return {gpu: int(torch.cuda.mem_get_info(gpu)[0] * FREE_FRACTION) for gpu in range(count)} if count > 1 else None
