"""Scoring in a worker: several sample ranges in one sweep over the layers, each committed by itself."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import torch

from drop_ray.calibration import packing
from drop_ray.config import RunConfig
from drop_ray.job.artifacts import SAMPLES, SCORE_SCHEMA, SCORES
from drop_ray.job.units import Sweep, Unit
from drop_ray.job.worker import Worker
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant
from drop_ray.scoring.metrics.metric import swept
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.store import Commit
from drop_ray.store.tables import read_table, write_table


@dataclass(frozen=True)
class ScoreUnit(Unit):
    """The scores of one sample range and one size of block windows."""

    calibration: Commit | None
    """Commit of the calibration samples; None in a dry run that found none."""
    samples: range
    """The sample range."""
    gap: int
    """Number of blocks in a window; 1 scores every attention, MLP and block."""
    drops: DropLists
    """Sub-layers that the model is scored without."""
    revision: str | None
    """Revision of an earlier training checkpoint; None is the run's model."""
    edited: Variant | None = None
    """The model with other weights, such as refitted ones; None is that of the revision."""

    @property
    def model_key(self) -> object:
        return self.drops, self.revision, self.edited

    def work(self, worker: Worker) -> Commit:
        (commit,) = ScoreShare((self,), streamed=False, seq_len=0).sweep(worker)
        return commit


@dataclass(frozen=True)
class ScoreShare(Sweep):
    """Units that are scored in one sweep: sample ranges of one model, each with all of its gaps."""

    units: tuple[ScoreUnit, ...]
    """The units, at least one."""
    streamed: bool
    """Whether layers are streamed from the checkpoint, and not resident in memory."""
    seq_len: int
    """Number of tokens of a sample."""

    @property
    def name(self) -> str:
        parts = [unit.samples for unit in self.units]
        return f"samples {min(part.start for part in parts)} to {max(part.stop for part in parts) - 1}"

    @property
    def title(self) -> str:
        return f"{self.units[0].line}, {'streamed' if self.streamed else 'resident'} layers"

    @property
    def kind(self) -> str:
        return self.title

    @property
    def tokens(self) -> int:
        return self.seq_len * sum({unit.samples: len(unit.samples) for unit in self.units}.values())

    def sweep(self, worker: Worker) -> list[Commit]:
        """Score all units of the share and commit each."""
        first = self.units[0]
        assert first.calibration is not None
        gaps = tuple(sorted({unit.gap for unit in self.units}))
        by_range: dict[range, list[ScoreUnit]] = {}
        for unit in self.units:
            by_range.setdefault(unit.samples, []).append(unit)
        # The states of a large wave wait on the host: a device that cannot hold the model cannot hold them either.
        states = "cpu" if self.streamed else None
        scoring = worker.setup.scoring
        metrics = swept(scoring.metrics)
        settings = SweepSettings(scoring.micro_batch, gaps, worker.setup.wave_bytes, states, metrics)
        scorer = self._scorer(worker)
        token_ids = remembered_samples(worker, first.calibration)
        commits = []
        for samples, rows in scorer.score(token_ids, list(by_range), settings, worker.log_progress("layer passes")):
            for unit in by_range[samples]:
                table = pa.Table.from_pylist([asdict(row) for row in rows if row.gap == unit.gap], SCORE_SCHEMA)
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / SCORES
                    write_table(table, path)
                    commits.append(worker.commit(unit.step, {SCORES: path}))
        return commits

    def _scorer(self, worker: Worker) -> Scorer:
        unit, model = self.units[0], worker.setup.model

        def load() -> Scorer:
            return Scorer(
                worker.source(unit.edited) if unit.edited else worker.checkpoint(unit.revision),
                unit.drops,
                dtype=worker.dtype,
                attn_implementation=model.attn_implementation,
                placement="streamed" if self.streamed else "resident",
                device=worker.device,
            )

        scorer: Scorer = worker.hold(("score", unit.model_key, self.streamed), load)
        return scorer


def shares_of(units: Sequence[ScoreUnit], streamed: bool, config: RunConfig) -> list[ScoreShare]:
    """Shares of the units. A streamed sweep reads all weights once per wave, so each worker gets one large share."""
    by_range: dict[range, list[ScoreUnit]] = {}
    for unit in units:
        by_range.setdefault(unit.samples, []).append(unit)
    ranges = list(by_range.values())
    size = -(-len(ranges) // config.execution.num_devices) if streamed else 1
    return [
        ScoreShare(
            tuple(unit for part in ranges[start : start + size] for unit in part), streamed, config.calibration.seq_len
        )
        for start in range(0, len(ranges), size)
    ]


def remembered_samples(worker: Worker, commit: Commit) -> torch.Tensor:
    """The calibration samples, int64 [num_samples, seq_len]. A worker reads them once for all its sample ranges."""

    def read() -> torch.Tensor:
        return torch.from_numpy(packing.from_table(read_table(worker.store, commit, SAMPLES))).long()

    samples: torch.Tensor = worker.remember(commit.step.path, read)
    return samples
