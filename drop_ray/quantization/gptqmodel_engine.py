"""Quantization by gptqmodel, which continues AutoGPTQ and also writes AutoAWQ's format.

Only this module and gptqmodel_private.py import it, and only when it is used. Importing it seeds torch and changes
settings of the process, so that it runs in a process of its own, which starts with the variables of `environment`.
"""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.export import check_new_folder, export_checkpoint, write_card
from drop_ray.models.families import DropLists
from drop_ray.models.location import has_tokenizer
from drop_ray.models.registration import register as register_with_transformers
from drop_ray.models.transformers_private import attention_of
from drop_ray.quantization.experts import QuantizedExperts, experts_of, names_in_files
from drop_ray.quantization.packed_checkpoint import write_packed_checkpoint


def environment(device: str) -> dict[str, str]:
    """Environment variables of the process that quantizes, to be set before it imports anything.

    `device` is `cpu` or `cuda`.
    """
    # By default gptqmodel takes half of the machine's CPUs, which others may use. It needs at least two workers.
    return {"HF_HUB_OFFLINE": "1", "GPTQMODEL_CPU_WORKERS": "2" if device == "cpu" else "8"}


def quantize(
    checkpoint: Checkpoint,
    drops: DropLists,
    spec: QuantizationSpec,
    token_ids: torch.Tensor,
    output: Path,
    *,
    dtype: torch.dtype,
    device: str,
    provenance: Mapping[str, Any],
    card: str | None = None,
    progress: Callable[[int, int], None],
) -> QuantizedExperts | None:
    """Write the model without the sub-layers of `drops`, quantized, to the new folder `output`.

    Returns which of its experts were calibrated, or None where it has none: those that no token of the samples meets
    are rounded to nearest. `provenance` and `card` are as of `export_checkpoint`. `token_ids` are calibration samples,
    int64 [num_samples, seq_len]. `dtype` is that of the tensors that are not quantized. The kernels of AWQ only support
    16 bits, so that float32 becomes float16 there. `progress` is told (layers done, layers).

    The model is quantized layer by layer. The device holds one decoder layer, its inputs of one sample, and GPTQ's
    Hessians (4 x width^2 bytes of each linear). The host holds the embeddings, the states of all samples before and
    after the layer, and for AWQ also the inputs of each of its linears. A copy of the dropped model and the finished
    layers lie on disk beside `output` while it works: about 1.3 times the size of the 16-bit model.

    Raises UserError if `output` exists and is not empty. Equal inputs give equal bytes on a CPU.
    """
    check_new_folder(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    if spec.method == "awq" and dtype == torch.float32:
        dtype = torch.float16
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".quantize-") as scratch:
        dropped, packed = Path(scratch) / "dropped", Path(scratch) / "packed"
        export_checkpoint(checkpoint, drops, dropped, provenance=provenance)
        opened = open_checkpoint(dropped)
        experts = _run(opened, spec, token_ids, packed, dtype, device, progress)
        skeleton = build_skeleton(read_config(opened), drop_lists_of(opened), dtype)
        names = names_in_files(skeleton, opened) if experts else None
        write_packed_checkpoint(dropped, packed, spec, dtype, output, names)
    notes = [experts.card(spec)] if experts else []
    quantization = f"{spec.method.upper()}, {spec.bits} bits in groups of {spec.group_size}"
    write_card(checkpoint, drops, output, provenance=provenance, refit=card, quantization=quantization, notes=notes)
    return experts


def _run(
    checkpoint: Checkpoint,
    spec: QuantizationSpec,
    token_ids: torch.Tensor,
    packed: Path,
    dtype: torch.dtype,
    device: str,
    progress: Callable[[int, int], None],
) -> QuantizedExperts | None:
    """Quantize `checkpoint`, the dropped model in 16 bits, and write its weights to the folder `packed`."""
    from gptqmodel import BACKEND, GPTQModel

    from drop_ray.quantization.definition import register
    from drop_ray.quantization.gptqmodel_private import contained, quantization_log, report_layers, without_tokenizer

    register_with_transformers()
    config, drops = read_config(checkpoint), drop_lists_of(checkpoint)
    skeleton = build_skeleton(config, drops, dtype)
    full = build_skeleton(config, DropLists(), dtype)
    has_experts = register(config.model_type, full, skeleton, token_ids.shape[1])
    torch.manual_seed(0)
    # On a GPU gptqmodel chooses itself. On a CPU it would choose a kernel for GPUs, which packs nothing there.
    backend = BACKEND.AWQ_TORCH if spec.method == "awq" and device == "cpu" else BACKEND.AUTO
    samples = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in token_ids.tolist()]
    tokenizer = nullcontext() if has_tokenizer(checkpoint.folder) else without_tokenizer()
    with contained(packed.with_name("logs")), tokenizer:
        model = GPTQModel.load(
            str(checkpoint.folder),
            _settings(spec, device, packed.with_name("finished-layers"), has_experts),
            dtype=dtype,
            attn_implementation=attention_of(skeleton.config),
        )
        report_layers(model, lambda layer: progress(layer + 1, config.num_hidden_layers))
        model.quantize(samples, calibration_sort=None, batch_size=1, backend=backend)
        model.save(str(packed))
    return experts_of(quantization_log(model)) if has_experts else None


def _settings(spec: QuantizationSpec, device: str, finished: Path, has_experts: bool) -> Any:
    from gptqmodel.quantization.config import FORMAT, AWQConfig, Fallback, GPTQConfig

    common: dict[str, Any] = {
        "bits": spec.bits,
        "group_size": spec.group_size,
        "sym": spec.is_symmetric,
        "device": device,
        # Every layer is loaded when its turn comes, and written to this folder when it is done.
        "offload_to_disk": True,
        "offload_to_disk_path": str(finished),
        # Otherwise gptqmodel rounds weights that it could not calibrate, and says so only in its log. Of an expert that
        # met less than one token it may, and its log is read.
        "fallback": Fallback(threshold=1) if has_experts else None,
    }
    if spec.method == "awq":
        return AWQConfig(format=FORMAT.GEMM, **common)
    # Even without desc_act, GPTQ may order the weights within a group, which does not change their order in the files.
    reorder = not spec.desc_act and spec.group_size != -1
    return GPTQConfig(format=FORMAT.GPTQ, desc_act=spec.desc_act, act_group_aware=reorder, **common)
