"""What gptqmodel raises in its threads, where it would end the process: a pool would take that for a lost worker."""

import os
import subprocess
import sys

import pytest
from processes import SUPPORT, with_folders
from tiny_models import write_checkpoint

from drop_ray.quantization.gptqmodel_engine import environment

# Outputs that AWQ's search cannot divide, which `check_quantization` would have refused.
CODE = """
import sys
from pathlib import Path
import torch
from tiny_models import token_ids
from drop_ray.config import QuantizationSpec
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.gptqmodel_engine import quantize

spec = QuantizationSpec(method="awq", group_size=32)
places = dict(output=Path(sys.argv[1], "quantized"), dtype=torch.float32, device="cpu")
try:
    quantize(open_checkpoint(Path(sys.argv[1], "model")), DropLists(), spec, token_ids(4, 32), **places,
             provenance={}, progress=lambda *_: None)
except AssertionError:
    print("raised, and left", *(path.name for path in Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.full
def test_an_error_in_a_thread_of_the_engine_is_raised_and_nothing_is_left(tmp_path):
    write_checkpoint(tmp_path / "model")
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment("cpu"), **with_folders(SUPPORT)},
    )
    assert result.stdout.splitlines()[-1:] == ["raised, and left model"], result.stderr[-2000:]
