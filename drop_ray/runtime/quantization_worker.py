"""The actor that quantizes, and evaluates what was quantized.

In processes of its own: gptqmodel seeds torch and sets variables of CUDA when it is imported, and its kernels are what
transformers loads quantized checkpoints with.
"""

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from drop_ray.job.artifacts import CHECKPOINT, RECONSTRUCTION, RECONSTRUCTION_SCHEMA
from drop_ray.models.dropped import parse_dtype
from drop_ray.runtime.logs import log_progress
from drop_ray.runtime.units import EvaluationUnit, QuantizationUnit, Unit
from drop_ray.runtime.worker import Worker
from drop_ray.store import Commit
from drop_ray.store.tables import write_table

logger = logging.getLogger(__name__)


class QuantizationWorker(Worker):
    def _do(self, unit: Unit) -> Commit:
        return self._quantize(unit) if isinstance(unit, QuantizationUnit) else super()._do(unit)

    def _quantize(self, unit: QuantizationUnit) -> Commit:
        from drop_ray.quantization.gptqmodel_engine import quantize
        from drop_ray.quantization.reconstruction import reconstruction_errors

        self._release()
        samples = unit.samples if isinstance(unit.samples, torch.Tensor) else self._samples_of(unit.samples)
        calibration, held_out = unit.spec.split(len(samples))
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder) / CHECKPOINT, Path(folder) / RECONSTRUCTION
            quantize(
                self._checkpoint,
                unit.drops,
                unit.spec,
                samples[calibration.start : calibration.stop],
                output,
                dtype=parse_dtype(self._setup.model.dtype),
                device=self._device,
                provenance=unit.provenance,
                progress=log_progress("quantized layers"),
            )
            found = reconstruction_errors(
                self._checkpoint,
                unit.drops,
                output,
                unit.spec,
                samples[held_out.start : held_out.stop],
                device=self._device,
                progress=log_progress("compared layers"),
            )
            write_table(pa.Table.from_pylist([asdict(row) for row in found], RECONSTRUCTION_SCHEMA), errors)
            return self._commit(unit.step, {CHECKPOINT: output, RECONSTRUCTION: errors})

    def _load(self, unit: EvaluationUnit) -> PreTrainedModel:
        from drop_ray.quantization.loading import load_quantized

        assert unit.quantized is not None
        folder = self._cache.folder_of(self._setup.store, unit.quantized, CHECKPOINT)
        try:
            return load_quantized(
                folder,
                device=self._device,
                dtype=parse_dtype(self._setup.model.dtype),
                attn_implementation=self._setup.model.attn_implementation,
            )
        finally:
            self._cache.release(folder)
