"""On a CUDA device: resident and streamed layers, with states on the device or on the host, give the same numbers."""

import pytest
import torch
from tiny_models import token_ids

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def score(folder, device, placement, state_device=None):
    scorer = Scorer(
        open_checkpoint(folder),
        DropLists((1,), ()),
        dtype=torch.float32,
        attn_implementation="sdpa",
        placement=placement,
        device=device,
    )
    settings = SweepSettings(2, (1, 2, 3), 60_000, state_device, ("cosine", "angular"))
    return [row for _, rows in scorer.score(token_ids(6, 24), [range(6)], settings) for row in rows]


def test_streamed_and_resident_layers_agree_on_the_device(llama_folder):
    resident = score(llama_folder, "cuda", "resident")
    assert score(llama_folder, "cuda", "streamed") == resident
    assert score(llama_folder, "cuda", "streamed", state_device="cpu") == resident


def test_the_device_agrees_with_the_processor(llama_folder):
    pairs = zip(score(llama_folder, "cuda", "resident"), score(llama_folder, "cpu", "resident"), strict=True)
    assert all(abs(a.total - b.total) / a.tokens < 1e-4 for a, b in pairs)
