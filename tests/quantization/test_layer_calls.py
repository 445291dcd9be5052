"""Each layer is calibrated as it is called: with its own mask and positions, not those of layer 0."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import SUPPORT, with_folders
from tiny_models import make_model, token_ids

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.families import DropLists
from drop_ray.quantization.gptqmodel_engine import environment
from drop_ray.quantization.layer_calls import record_calls
from drop_ray.scoring.inputs import InputRecorder

SEQ_LEN = 24


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_same(found[key], expected[key])
    elif isinstance(found, list | tuple):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"])
def test_the_calls_are_those_that_the_model_makes_with_its_weights(tmp_path, architecture):
    model = make_model(architecture)
    model.save_pretrained(tmp_path)
    config = read_config(open_checkpoint(tmp_path))
    skeleton = build_skeleton(config, DropLists((0,), (1,)), torch.float32)
    found = record_calls(skeleton, SEQ_LEN)
    expected = InputRecorder(model)(token_ids(1, SEQ_LEN)).keyword_arguments
    assert_same(found, expected)
    assert skeleton.get_input_embeddings().weight.is_meta


RECORD_MASKS = """
import functools, json, sys, torch
from pathlib import Path
from transformers.models.gemma2.modeling_gemma2 import Gemma2Attention
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.gptqmodel_engine import quantize
from drop_ray.text.progress import ignore_progress
from quantized_runs import CALIBRATION, write_base

seen = set()
forward = Gemma2Attention.forward

@functools.wraps(forward)  # the engine looks at the signature
def record(self, hidden_states, *args, attention_mask, **kwargs):
    allowed = (attention_mask[0, 0, -1] == 0).sum().item()
    seen.add((self.sliding_window, attention_mask.shape[-1], allowed))
    return forward(self, hidden_states, *args, attention_mask=attention_mask, **kwargs)

Gemma2Attention.forward = record
folder = Path(sys.argv[1])
base = open_checkpoint(write_base(folder / "base", "Gemma2ForCausalLM"))
for method in ("gptq", "awq"):
    seen.clear()
    quantize(
        base, DropLists((0,)), QuantizationSpec(method=method, group_size=32), CALIBRATION, folder / method,
        dtype=torch.float32, device="cpu", provenance={}, progress=ignore_progress,
    )
    print("SEEN", json.dumps(sorted(seen, key=str)), file=sys.__stdout__)
"""


@pytest.mark.full
def test_the_engine_calls_windowed_and_full_layers_with_masks_of_their_own(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", RECORD_MASKS, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, **environment("cpu"), **with_folders(Path(__file__).parent, SUPPORT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    seen = [line for line in result.stdout.splitlines() if line.startswith("SEEN")]
    # Layers without a window see all 64 tokens, the others 16; layer 0, which has a window, is without attention.
    assert seen == ["SEEN [[16, 64, 16], [null, 64, 64]]"] * 2
