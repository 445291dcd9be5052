"""What is sent to a worker: its set-up once, then units of work, each with the step that it is to commit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from drop_ray.config import EvaluationConfig, ModelConfig, ScoringConfig
from drop_ray.evaluation import TaskRequest
from drop_ray.models.families import DropLists
from drop_ray.store import Commit, Step, Store


@dataclass(frozen=True)
class WorkerSetup:
    """threads: torch's on a CPU, None leaves the library's own number; include_path: folder of lm-eval tasks;
    wave_bytes: host memory for residual states when layers are streamed."""

    model: ModelConfig
    model_identity: str
    store: Store
    scoring: ScoringConfig
    evaluation: EvaluationConfig
    include_path: str | None
    threads: int | None
    wave_bytes: int


@dataclass(frozen=True)
class ScoreUnits:
    """Sample ranges to score in one sweep, each with the steps (by gap) that are still to be committed.

    streamed: whether the layers come from the checkpoint one by one, or all stay in memory.
    """

    calibration: Commit
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
    """A checkpoint to write; `provenance` goes into its config.json."""

    step: Step
    drops: DropLists
    provenance: Mapping[str, Any]


Unit = ScoreUnits | EvaluationUnit | ExportUnit
