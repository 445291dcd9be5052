"""What quantizing costs at least: the operations of its passes over the samples."""

from drop_ray.config import CalibrationConfig
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.job.expected import Phase
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists

# A layer computes its samples before and after it is quantized; so do the base's and the quantized one that are
# compared on what was held out. AWQ also computes each linear once for each of the 20 scales that it tries (Lin et al.,
# arXiv 2306.00978). GPTQ adds up x x^T of the inputs of each linear (Frantar et al., arXiv 2210.17323), which with
# square matrices is as many operations as the linear itself.
PASSES = {"awq": 2 + 20, "gptq": 2 + 1}
COMPARED = 2


def quantization_phase(
    size: ModelSize, drops: DropLists, spec: QuantizationSpec, calibration: CalibrationConfig
) -> Phase:
    """Of one variant."""
    text = spec.text or calibration
    used, held_out = spec.split(text.num_samples)
    passes = PASSES[spec.method] * len(used) + COMPARED * len(held_out)
    flops = size.forward_flops(drops, passes * text.seq_len, text.seq_len)
    weights = size.kept_parameters(drops) * size.bytes_per_parameter
    return Phase(flops, loaded=weights)
