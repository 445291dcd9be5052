"""The section `quantization` of the config: what each line makes of a variant, and what is refused before any work."""

from collections.abc import Sequence

from drop_ray.config import QuantizationSpec, RunConfig, quantization_field
from drop_ray.errors import UserError
from drop_ray.job.change_sections import ChangeSection, text_identity
from drop_ray.job.job import Job
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.planning.changes import Change
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.checks import check_quantization


class QuantizationSection(ChangeSection):
    """Quantization of the base and of every plan, after dropping."""

    field = "quantization"
    libraries = ("gptqmodel", "optimum")

    def lines(self, config: RunConfig) -> Sequence[QuantizationSpec]:
        return config.quantization

    def check(self, config: RunConfig, checkpoint: Checkpoint) -> None:
        check_quantization(config.quantization, checkpoint)
        _check_kernels(config)

    def changes(self, job: Job) -> Sequence[Change]:
        return [self._change(job, spec) for spec in job.config.quantization]

    def _change(self, job: Job, spec: QuantizationSpec) -> Quantize:
        samples = text_identity(job, spec.text, quantization_field(spec.label))
        return Quantize(spec, job.config.model.dtype, samples)


QUANTIZATION = QuantizationSection()


def _check_kernels(config: RunConfig) -> None:
    """UserError for quantizations without kernels in vLLM 0.32: `vllm/model_executor/layers/quantization`."""
    serves = config.serving is not None and config.serving.engine == "vllm"
    evaluates = config.evaluation.backend == "vllm"
    if not config.quantization or not (serves or evaluates):
        return
    for field, is_met, dtype in (
        ("serving.dtype", serves, config.serving_dtype),
        ("model.dtype", evaluates, config.model.dtype),
    ):
        if is_met and dtype == "float32":
            raise UserError(f"{field}: vLLM serves quantized models in 16 bits only; set it to bfloat16 or float16")
    for spec in config.quantization:
        if spec.method == "gptq" and not spec.is_symmetric:
            raise UserError(f"quantization ({spec.label}).symmetric: vLLM serves symmetric gptq only; leave it out")
        if spec.method == "gptq" and spec.group_size == 16 and config.execution.device == "cuda":
            raise UserError(f"quantization ({spec.label}).group_size: vLLM's kernels for GPUs begin at 32")
        if spec.bits == 8 and config.execution.device == "cpu":
            raise UserError(f"quantization ({spec.label}).bits: vLLM serves 4 bits only on a CPU")
