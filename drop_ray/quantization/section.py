"""The section `quantization` of the config: what each line makes of a variant, and what is refused before any work."""

from collections.abc import Sequence

from drop_ray.config import AnyQuantization, RunConfig, quantization_field
from drop_ray.errors import UserError
from drop_ray.job.change_sections import ChangeSection, text_identity
from drop_ray.job.job import Job
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.config_fields import EXPERTS
from drop_ray.planning.changes import Change
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.checks import check_quantization
from drop_ray.quantization.engine import engine_of


class QuantizationSection(ChangeSection):
    """Quantization of the base and of every plan, after dropping."""

    field = "quantization"

    def libraries(self, config: RunConfig) -> tuple[str, ...]:
        return tuple(dict.fromkeys(library for spec in config.quantization for library in engine_of(spec).needed))

    def lines(self, config: RunConfig) -> Sequence[AnyQuantization]:
        return config.quantization

    def check(self, config: RunConfig, checkpoint: Checkpoint) -> None:
        check_quantization(config.quantization, checkpoint)
        _check_kernels(config, checkpoint)

    def changes(self, job: Job) -> Sequence[Change]:
        return [self._change(job, spec) for spec in job.config.quantization]

    def _change(self, job: Job, spec: AnyQuantization) -> Quantize:
        samples = text_identity(job, spec.text, quantization_field(spec.label))
        return Quantize(spec, job.config.model.dtype, samples)


QUANTIZATION = QuantizationSection()


def _check_kernels(config: RunConfig, checkpoint: Checkpoint) -> None:
    """UserError for quantizations without kernels in vLLM 0.32."""
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
    if config.execution.device == "cpu" and any(isinstance(checkpoint.config.get(field), int) for field in EXPERTS):
        raise UserError(
            "quantization: vLLM has no kernels for quantized experts on a CPU; leave out `serving`, and evaluate "
            "by the backend hf there"
        )
    for spec in config.quantization:
        engine_of(spec).check_served(spec, config)
