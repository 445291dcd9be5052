"""The actors: each loads what it needs once, does units of work and commits each of them to the store itself."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoTokenizer, PreTrainedModel

from drop_ray import calibration
from drop_ray.config import EvaluationConfig, ModelConfig, ScoringConfig, resolve_path
from drop_ray.errors import WorkerFailedError
from drop_ray.evaluation import TaskRequest, TaskResult
from drop_ray.evaluation.perplexity import evaluate_perplexity
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import load_model, parse_dtype
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.location import locate_model
from drop_ray.runtime.logs import WorkerInfo, describe_this_worker
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.similarity import ScoreRow
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.store import Commit, Step, Store
from drop_ray.store.tables import read_table, write_table
from drop_ray.versions import full_versions

SCORES, DOCUMENTS, METRICS, CHECKPOINT = "scores.parquet", "documents.parquet", "metrics.json", "checkpoint"
SCORE_SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),
        ("layer", pa.int32()),
        ("gap", pa.int32()),
        ("module", pa.string()),
        ("metric", pa.string()),
        ("total", pa.float64()),
        ("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker is told. `threads` is torch's on a CPU; None leaves the library's own number."""

    model: ModelConfig
    model_identity: str
    store: Store
    threads: int | None


@dataclass(frozen=True)
class ScoreUnits:
    """Sample ranges to score in one sweep, each with the steps (by gap) that are still to be committed.

    streamed: whether the layers come from the checkpoint one by one, or all stay in memory.
    """

    drops: DropLists
    streamed: bool
    ranges: tuple[tuple[range, Mapping[int, Step]], ...]


@dataclass(frozen=True)
class EvaluationUnit:
    """One task or text on one plan; exactly one of `task` and `token_ids` (int64 [num_samples, seq_len]) is given."""

    step: Step
    drops: DropLists
    name: str
    task: TaskRequest | None = None
    token_ids: torch.Tensor | None = None


@dataclass(frozen=True)
class ExportUnit:
    step: Step
    drops: DropLists
    provenance: Mapping[str, Any]


class _Worker:
    """What the workers share: threads, device and the model's files, checked to be those the driver saw."""

    def __init__(self, setup: WorkerSetup):
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
        self.store = setup.store
        self.device = "cuda" if torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu"
        self.model = setup.model
        self.checkpoint: Checkpoint = open_checkpoint(
            locate_model(str(resolve_path(setup.model.path)), setup.model.revision)
        )
        if self.checkpoint.identity != setup.model_identity:
            raise WorkerFailedError(
                f"model.path: {setup.model.path} on {describe_this_worker().node} is not the model that the driver has; "
                "give every node the same files"
            )

    def describe(self) -> WorkerInfo:
        return describe_this_worker()

    def commit(self, step: Step, outputs: Mapping[str, Path]) -> Commit:
        info = describe_this_worker()
        provenance = {"versions": full_versions(), "device": self.device, "node": info.node}
        return self.store.commit(step, outputs, provenance=provenance)


class ScoreWorker(_Worker):
    """Scores sample ranges; keeps the model of its last drop state."""

    def __init__(self, setup: WorkerSetup, calibration_commit: Commit, scoring: ScoringConfig, wave_bytes: int):
        super().__init__(setup)
        self._token_ids = torch.from_numpy(
            calibration.from_table(read_table(self.store, calibration_commit, calibration.SAMPLES_FILE))
        ).long()
        self._micro_batch, self._wave_bytes = scoring.micro_batch, wave_bytes
        self._scorer: Scorer | None = None
        self._loaded: tuple[DropLists, bool] | None = None

    def run(self, units: ScoreUnits) -> list[Commit]:
        if self._scorer is None or self._loaded != (units.drops, units.streamed):
            self._scorer = None  # before the next is loaded: two models would be in memory
            self._scorer = Scorer(
                self.checkpoint,
                units.drops,
                dtype=parse_dtype(self.model.dtype),
                attn_implementation=self.model.attn_implementation,
                placement="streamed" if units.streamed else "resident",
                device=self.device,
            )
            self._loaded = units.drops, units.streamed
        gaps = tuple(sorted({gap for _, steps in units.ranges for gap in steps}))
        # The states of a large wave wait on the host: a device that cannot hold the model cannot hold them either.
        settings = SweepSettings(self._micro_batch, gaps, self._wave_bytes, "cpu" if units.streamed else None)
        steps = dict(units.ranges)
        commits = []
        for samples, rows in self._scorer.score(self._token_ids, [samples for samples, _ in units.ranges], settings):
            for gap, step in steps[samples].items():
                commits.append(self._commit_rows(step, [row for row in rows if row.gap == gap]))
        return commits

    def _commit_rows(self, step: Step, rows: list[ScoreRow]) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / SCORES
            write_table(pa.Table.from_pylist([asdict(row) for row in rows], SCORE_SCHEMA), path)
            return self.commit(step, {SCORES: path})


class EvaluationWorker(_Worker):
    """Evaluates plans: base weights with the drop lists, loaded directly and kept for the next task of the same plan."""

    def __init__(self, setup: WorkerSetup, evaluation: EvaluationConfig, include_path: str | None):
        super().__init__(setup)
        self._evaluation, self._include_path = evaluation, include_path
        self._tokenizer = AutoTokenizer.from_pretrained(self.checkpoint.folder)
        self._loaded: PreTrainedModel | None = None
        self._evaluator: Any = None
        self._drops: DropLists | None = None

    def run(self, unit: EvaluationUnit) -> Commit:
        model = self._model_of(unit.drops)
        if unit.token_ids is not None:
            token_ids = unit.token_ids.to(self.device)
            result = evaluate_perplexity(model, token_ids, self._evaluation.batch_size, unit.name)
        else:
            assert unit.task is not None
            result = self._evaluator_of(model).evaluate(unit.task)
        return self._commit_result(unit.step, result)

    def _model_of(self, drops: DropLists) -> PreTrainedModel:
        if self._loaded is None or self._drops != drops:
            self._loaded = self._evaluator = None  # before the next is loaded: two models would be in memory
            self._loaded = load_model(
                self.checkpoint.folder,
                drops,
                dtype=parse_dtype(self.model.dtype),
                device=self.device,
                attn_implementation=self.model.attn_implementation,
            )
            self._drops = drops
        return self._loaded

    def _evaluator_of(self, model: PreTrainedModel) -> Any:
        if self._evaluator is None:
            from drop_ray.evaluation.harness import Evaluator  # imports lm-eval

            settings = self._evaluation.model_dump(
                include={"batch_size", "seed", "apply_chat_template", "system_instruction", "max_length"}
            )
            self._evaluator = Evaluator(model, self._tokenizer, include_path=self._include_path, **settings)
        return self._evaluator

    def _commit_result(self, step: Step, result: TaskResult) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            metrics, documents = Path(folder) / METRICS, Path(folder) / DOCUMENTS
            values = {"metrics": [asdict(metric) for metric in result.metrics], "raw": result.raw}
            metrics.write_text(json.dumps(values, indent=1, sort_keys=True))
            write_table(result.documents, documents)
            return self.commit(step, {METRICS: metrics, DOCUMENTS: documents})


class ExportWorker(_Worker):
    """Writes dropped checkpoints; needs no accelerator and little memory."""

    def run(self, unit: ExportUnit) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / CHECKPOINT
            export_checkpoint(self.checkpoint, unit.drops, output, provenance=dict(unit.provenance))
            return self.commit(unit.step, {CHECKPOINT: output})
