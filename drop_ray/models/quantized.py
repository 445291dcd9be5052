"""Loads a quantized checkpoint as a model of transformers: on gptqmodel's kernels, or as the numbers it has."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from drop_ray.errors import CorruptArtifactError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import checkpoint_dtype
from drop_ray.models.families import FAMILIES, base_name
from drop_ray.models.loading import load_model
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, FP8
from drop_ray.models.registration import register


def load_quantized(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """The model in `folder`, as `quantize` writes it, in evaluation mode.

    One in 8-bit floats computes with the numbers that they stand for, in `dtype`: its activations are not quantized.
    `dtype` is that of the tensors that are not quantized, by default the checkpoint's own. `attn_implementation` is by
    default what the family needs. Raises CorruptArtifactError for tensors that are missing, or that the model has no
    use for.
    """
    checkpoint = open_checkpoint(folder)
    dtype = dtype or checkpoint_dtype(checkpoint)
    if (checkpoint.config.get(FIELD) or {}).get("quant_method") in (FP8, COMPRESSED):
        return load_model(checkpoint, dtype=dtype, device=device, attn_implementation=attn_implementation)
    family = FAMILIES[base_name(checkpoint.config, str(folder))]
    register()
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        attn_implementation=attn_implementation or ("eager" if family.needs_eager else "sdpa"),
        output_loading_info=True,
    )
    faults = {kind: names for kind, names in report.items() if names}
    if faults:
        kind, names = next(iter(faults.items()))
        raise CorruptArtifactError(f"{folder}: {kind}: {len(names)}, the first is {min(map(str, names))}")
    loaded: PreTrainedModel = model.eval()
    return loaded
