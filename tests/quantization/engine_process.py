"""Runs the engine in a process of its own, as a run does: importing it seeds torch and changes settings."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from processes import SUPPORT, with_folders

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.text.progress import ignore_progress


@dataclass(frozen=True)
class EngineJob:
    base: Path
    drops: DropLists
    spec: QuantizationSpec
    token_ids: torch.Tensor
    output: Path
    dtype: torch.dtype = torch.float32


def quantize_all(jobs, scratch: Path) -> None:
    """Quantize one after the other; `kernel_weights` has what the engine's own kernels make of each linear."""
    from drop_ray.quantization.gptqmodel_engine import environment

    torch.save(jobs, scratch / "jobs.pt")
    environ = {**os.environ, **environment("cpu"), **with_folders(Path(__file__).parent, SUPPORT)}
    # In `scratch`: the engine writes a log folder where it is started.
    command = [sys.executable, __file__, str(scratch / "jobs.pt")]
    result = subprocess.run(command, cwd=scratch, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def kernel_weights(output: Path) -> dict[str, torch.Tensor]:
    """By linear, [outputs, inputs]: what its kernel gives for each single input of one, less the bias."""
    return torch.load(output.with_suffix(".kernels"))


def _run(job: EngineJob) -> None:
    from drop_ray.models.quantized import load_quantized
    from drop_ray.quantization.dequantized import open_dequantized
    from drop_ray.quantization.gptqmodel_engine import quantize

    quantize(
        open_checkpoint(job.base),
        job.drops,
        job.spec,
        job.token_ids,
        job.output,
        dtype=job.dtype,
        device="cpu",
        provenance={},
        progress=ignore_progress,
    )
    model, weights = load_quantized(job.output), {}
    for name in open_dequantized(job.output).linears:
        linear = model.get_submodule(name)
        with torch.no_grad():
            weights[name] = linear(torch.eye(linear.in_features, dtype=model.dtype)).float().T.clone()
            if linear.bias is not None:
                weights[name] -= linear.bias.float()[:, None]
    torch.save(weights, job.output.with_suffix(".kernels"))


if __name__ == "__main__":
    for job in torch.load(sys.argv[1], weights_only=False):
        _run(job)
