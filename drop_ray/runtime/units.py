"""What is sent to a worker: its set-up once, then units of work, each with the step that it is to commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from drop_ray.config import EvaluationConfig, ModelConfig, QuantizationSpec, ScoringConfig, ServingConfig
from drop_ray.evaluation import TaskRequest
from drop_ray.models.accounting import ModelSize
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.store import Commit, Step, Store

# What takes part in a result, or in understanding the driver.
LIBRARIES = ("drop-ray", "torch", "transformers", "tokenizers", "ray", "lm-eval")


@dataclass(frozen=True)
class WorkerSetup:
    """model_identity: of the run's model; earlier_identities: of the training checkpoints before it, by revision;
    threads: torch's on a CPU, None leaves the library's own number; include_path: folder of lm-eval tasks;
    wave_bytes: host memory for residual states when layers are streamed; model_options: of the connection to S3, for a
    model there; cache_dir, cache_bytes: as in `execution`; libraries: that every node must have as the driver does."""

    model: ModelConfig
    model_identity: str
    store: Store
    scoring: ScoringConfig
    evaluation: EvaluationConfig
    include_path: str | None
    threads: int | None
    wave_bytes: int
    earlier_identities: Mapping[str, str] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: str | None = None
    cache_bytes: int | None = None
    libraries: tuple[str, ...] = LIBRARIES


@dataclass(frozen=True)
class ScoreUnits:
    """Sample ranges to score in one sweep, each with the steps (by gap) that are still to be committed.

    streamed: whether the layers come from the checkpoint one by one, or all stay in memory; revision: of an earlier
    training checkpoint, None for the run's model.
    """

    calibration: Commit
    drops: DropLists
    streamed: bool
    ranges: tuple[tuple[range, Mapping[int, Step]], ...]
    revision: str | None = None


@dataclass(frozen=True)
class EvaluationUnit:
    """One task or text on one plan; exactly one of `task` and `token_ids` (int64 [num_samples, seq_len]) is given.

    quantized: where the model is a quantized checkpoint, its commit.
    """

    step: Step
    drops: DropLists
    name: str
    task: TaskRequest | None = None
    token_ids: torch.Tensor | None = None
    quantized: Commit | None = None

    @property
    def model_key(self) -> tuple[DropLists, str | None]:
        """Equal for units of one model, which a worker keeps."""
        return self.drops, self.quantized.folder if self.quantized else None


@dataclass(frozen=True)
class ExportUnit:
    """A checkpoint to write; `provenance` goes into its config.json."""

    step: Step
    drops: DropLists
    format: ExportFormat
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class QuantizationUnit:
    """A checkpoint to drop from, then quantize. samples: of a text, int64 [num_samples, seq_len], or the run's own."""

    step: Step
    drops: DropLists
    spec: QuantizationSpec
    samples: torch.Tensor | Commit
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class BenchUnit:
    """The serving benchmark of one plan; base_drops: what it is measured against. text: calibration samples that the
    engines are checked on, equally long; spec, quantized: of a quantized plan, with its checkpoint's commit."""

    step: Step
    drops: DropLists
    base_drops: DropLists
    serving: ServingConfig
    size: ModelSize
    text: Sequence[Sequence[int]]
    device: Literal["cpu", "cuda"]
    kv_cache_bytes: int | None
    tensor_parallel: int
    spec: QuantizationSpec | None = None
    quantized: Commit | None = None


Unit = ScoreUnits | EvaluationUnit | ExportUnit | QuantizationUnit
