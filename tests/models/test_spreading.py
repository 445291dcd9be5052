"""A model over several devices: which part goes where, and that it computes what it computes on one."""

import pytest
import torch
from tiny_models import droppable, token_ids, write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.loading import Weights, load_model, load_spread
from drop_ray.models.spreading import device_map_of, gpus_needed

GIB = 1 << 30


@pytest.mark.parametrize(
    ("model_gb", "device_gb", "gpus"), [(14, 80, 1), (64, 80, 1), (65, 80, 2), (140, 80, 3), (140, 141, 2), (0, 80, 1)]
)
def test_the_gpus_that_a_model_needs_are_its_bytes_with_a_quarter_more(model_gb, device_gb, gpus):
    assert gpus_needed(model_gb * GIB, device_gb * GIB) == gpus


def skeleton_of(folder, drops=DropLists()):
    checkpoint = open_checkpoint(folder)
    lists = drop_lists_of(checkpoint).union(drops)
    return build_skeleton(read_config(checkpoint), lists, torch.float32, "eager"), checkpoint


def test_every_part_has_a_device_and_layers_stay_whole(family_folder, request):
    name = request.node.callspec.params["family_folder"]
    skeleton, _ = skeleton_of(family_folder, only(DropLists((1,), (2,)), droppable(name)))
    size = sum(parameter.numel() * 4 for parameter in skeleton.parameters())
    devices = device_map_of(skeleton, {0: size, 1: size, 2: size})
    assert 2 <= len({*devices.values()}) <= 3
    for name, _ in skeleton.named_parameters():
        assert any(name.startswith(f"{part}.") for part in devices), name
    assert not any("layers" in part and part.count(".") > 2 for part in devices)


def test_devices_that_do_not_hold_the_model_are_refused(llama_folder):
    skeleton, _ = skeleton_of(llama_folder)
    size = sum(parameter.numel() * 4 for parameter in skeleton.parameters())
    with pytest.raises(UserError, match="execution.gpus_per_worker: 2 GPUs .* has no place"):
        device_map_of(skeleton, {0: size // 3, 1: size // 3})


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForCausalLM", "Gemma3ForCausalLM"])
def test_a_model_that_was_loaded_in_parts_computes_the_same(tmp_path, architecture):
    folder = write_checkpoint(tmp_path / "model", architecture)
    drops = DropLists((1,), (2,))
    skeleton, checkpoint = skeleton_of(folder, drops)
    size = sum(parameter.numel() * 4 for parameter in skeleton.parameters())
    parts = dict.fromkeys(device_map_of(skeleton, {0: size, 1: size}), "cpu")
    spread = load_spread(skeleton, Weights(skeleton, checkpoint), parts)
    ids = token_ids(2, 12)
    with torch.no_grad():
        whole = load_model(folder, drops, dtype=torch.float32, attn_implementation="eager")
        assert torch.equal(spread(ids).logits, whole(ids).logits)
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in spread.parameters())
