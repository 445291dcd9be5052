"""A model that no single GPU holds: how many it needs, and which part of it goes where."""

from collections.abc import Mapping

import torch
from accelerate import infer_auto_device_map
from accelerate.utils import get_balanced_memory
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.dropped import decoder_layers

# A device's memory over the weights it holds. The rest is for activations, logits and the libraries.
HEADROOM = 1.25


def gpus_needed(model_bytes: int, device_bytes: int) -> int:
    """GPUs that the weights take, each with `device_bytes` of memory, with room to work."""
    needed = round(model_bytes * HEADROOM)
    return max(1, -(-needed // device_bytes))


def device_map_of(skeleton: PreTrainedModel, memory: Mapping[int | str, int]) -> dict[str, int | str]:
    """The device of every part of a skeleton. Layers are kept whole, and every device gets about as much.

    `memory` says how many bytes each device may hold. UserError if they do not hold the whole model: nothing is left to
    the host.
    """
    whole = sorted({type(layer).__name__ for layer in decoder_layers(skeleton)})
    balanced = get_balanced_memory(skeleton, max_memory=dict(memory), no_split_module_classes=whole)
    devices = infer_auto_device_map(
        skeleton, max_memory={name: balanced[name] for name in memory}, no_split_module_classes=whole
    )
    if outside := [name for name, device in devices.items() if device not in memory]:
        raise UserError(
            f"execution.gpus_per_worker: {len(memory)} GPUs of {min(memory.values())} free bytes do not hold the "
            f"model, {outside[0]} has no place; give each worker more GPUs"
        )
    return dict(devices)


def devices_of(model: PreTrainedModel) -> list[torch.device]:
    """The devices that a loaded model computes on, in the order of its layers."""
    return list(dict.fromkeys(parameter.device for parameter in model.parameters()))
