"""What quantizing costs at least: the operations of its passes over the samples."""

from drop_ray.config import CalibrationConfig
from drop_ray.config.quantization import AnyQuantization
from drop_ray.job.expected import Phase
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.quantization.engine import engine_of

# The layers of the base and the quantized ones are compared on what was held out.
COMPARED = 2


def quantization_phase(
    size: ModelSize, drops: DropLists, spec: AnyQuantization, calibration: CalibrationConfig
) -> Phase:
    """Of one variant."""
    text = spec.text or calibration
    used, held_out = spec.split(text.num_samples)
    passes = engine_of(spec).passes(spec, len(used)) + COMPARED * len(held_out)
    flops = size.forward_flops(drops, passes * text.seq_len, text.seq_len)
    weights = size.kept_parameters(drops) * size.bytes_per_parameter
    return Phase(flops, loaded=weights)
