"""A run on a base that is stored in FP8 scores as the run on its 16-bit copy does, and exports its own bytes."""

import pytest
import torch
from local_run import run_stages
from quantized_bases import KINDS, write_quantized_base
from tiny_run import config_of, write_inputs

from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.stages import score


def run_until_export(inputs, model, store, layers):
    fields = {"path": str(model), "dtype": "bfloat16"}
    config = config_of(inputs, store, model=fields, export="all", execution={"layers": layers})
    return run_stages(open_job(config), "export")


@pytest.mark.parametrize("layers", [pytest.param("resident", marks=pytest.mark.full), "streamed"])
def test_scores_are_those_of_the_16_bit_copy_and_exports_have_the_stored_bytes(tmp_path, layers):
    inputs = write_inputs(tmp_path)
    stored, copy = write_quantized_base(tmp_path / "fp8"), tmp_path / "copy"
    load_model(stored).save_pretrained(copy)
    for path in stored.glob("*token*"):
        (copy / path.name).write_bytes(path.read_bytes())
    of_stored = run_until_export(inputs, stored, tmp_path / "a", layers)
    of_copy = run_until_export(inputs, copy, tmp_path / "b", layers)
    first, second = (score.table(run, DropLists())["cosine"].importance for run in (of_stored, of_copy))
    assert first == second
    base, exports = open_checkpoint(stored), list((tmp_path / "a").rglob("config.json"))
    assert exports
    for path in exports:
        exported = open_checkpoint(path.parent)
        assert exported.config["quantization_config"] == KINDS["fp8"][1]
        before, after = base.read(exported.tensors), exported.read(exported.tensors)
        assert all(after[name].view(torch.uint8).equal(before[name].view(torch.uint8)) for name in after)
