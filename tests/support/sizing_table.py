"""The sizing table of docs/cluster.md: what whole runs of the example configs take, by the dry run's own arithmetic."""

import tempfile
from pathlib import Path

from published_models import FIELDS, published_job, published_size

from drop_ray.config.hardware import HardwareSpec
from drop_ray.job.expected import Expected
from drop_ray.stages.forecast import forecast
from drop_ray.text.units import human_hours

MODELS = {"llama3_8b": "Llama-3-8B", "llama3_70b": "Llama-3-70B", "llama31_405b": "Llama-3.1-405B"}
PRICE = 3
# Of a worker that quantizes (docs/cluster.md): the folder that it writes, by the 16-bit model, and the states of all
# samples on the host, by those of one layer.
WRITTEN = 1.3
STATES_KEPT = {"awq": 8, "gptq": 2}
GB = 1e9


def sizing_table() -> str:
    """One row a config, which runs on one node."""
    lines = [
        "| model, config | weights | GPUs of the node | host memory | disk | GPU-hours | hours | "
        f"price at {PRICE} per GPU-hour |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        size = published_size(FIELDS[name])
        with tempfile.TemporaryDirectory() as folder:
            job = published_job(Path(folder), name, size)
            works = list(forecast(job))
        lines.append(f"| {' | '.join(_row(name, job, size, works))} |")
    return "\n".join(lines) + "\n"


def _row(name, job, size, works) -> list[str]:
    execution, hardware = job.config.execution, job.config.hardware
    assert isinstance(hardware, HardwareSpec)
    total = sum((work.expected for work in works if work.expected), Expected())
    weights = size.parameters * size.bytes_per_parameter
    quantizing = min(execution.num_devices, sum(work.todo for work in works if work.stage == "quantize"))
    disk = weights + quantizing * WRITTEN * weights
    return [
        f"{MODELS[name]}, [{name}](../jobs/configs/{name}.yaml)",
        f"{weights / GB:.0f} GB",
        f"{total.gpus:g} of {hardware.peak.memory / GB:.0f} GB ({hardware.gpu})",
        f"{_host_bytes(job, size, quantizing) / GB:.0f} GB",
        f"{disk / GB:.0f} GB",
        human_hours(total.gpu_hours),
        human_hours(total.wall_hours),
        f"{total.gpus * total.wall_hours * PRICE:.0f}",
    ]


def _host_bytes(job, size, quantizing) -> float:
    """Of all workers of a node: those that stream layers hold states and two layers, those that quantize all states."""
    execution, calibration = job.config.execution, job.config.calibration
    layer = max(a + b for a, b in zip(size.attention_parameters, size.mlp_parameters, strict=True))
    streaming = execution.num_devices * (execution.wave_bytes + 2 * layer * size.bytes_per_parameter)
    states = calibration.num_samples * calibration.seq_len * size.hidden_size * size.bytes_per_parameter
    kept = max((STATES_KEPT[spec.method] for spec in job.config.quantization), default=0)
    return max(streaming, quantizing * kept * states)
