"""On a CUDA device: panels of resident and streamed layers are the same, and near those of the processor."""

import numpy as np
import pytest
import torch
from tiny_models import token_ids

from drop_ray.evaluation.divergence.state_models import LayeredModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

PLANS = {"a": DropLists((1,)), "b": DropLists((1,), (2,)), "same": DropLists()}


def numbers(folder, device, placement, wave_bytes=1 << 30):
    checkpoint = open_checkpoint(folder)
    model = LayeredModel(
        checkpoint, dtype=torch.float32, attn_implementation="sdpa", placement=placement, device=device
    )
    variants = {name: Compared(model, drops) for name, drops in PLANS.items()}
    settings = DivergenceSettings(2, wave_bytes)
    return compare_with_base(Compared(model, DropLists()), variants, token_ids(6, 24), settings).found


def test_streamed_and_resident_layers_agree_on_the_device(llama_folder):
    resident = numbers(llama_folder, "cuda", "resident")
    for wave_bytes in (1, 1 << 30):
        streamed = numbers(llama_folder, "cuda", "streamed", wave_bytes)
        assert all(np.array_equal(np.array(resident[name]), np.array(streamed[name])) for name in PLANS)
    assert resident["same"].kl.max() == 0


def test_the_device_agrees_with_the_processor(llama_folder):
    cuda, cpu = numbers(llama_folder, "cuda", "resident"), numbers(llama_folder, "cpu", "resident")
    for name in PLANS:
        np.testing.assert_allclose(cuda[name].kl, cpu[name].kl, atol=1e-4)
        np.testing.assert_allclose(cuda[name].acceptance, cpu[name].acceptance, atol=1e-4)
