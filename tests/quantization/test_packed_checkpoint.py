"""What the engine leaves becomes a checkpoint: scales in float16, whole or not at all."""

import pytest
import torch
from packed_models import edit_tensor, write_rounded
from safetensors.torch import load_file
from tiny_models import write_checkpoint

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import WorkerFailedError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.packed_checkpoint import write_packed_checkpoint

DROPS = DropLists((1,), (3,))
SPEC = QuantizationSpec(method="awq", group_size=16)
SCALES = "model.layers.2.mlp.up_proj.scales"


@pytest.fixture
def folders(tmp_path):
    """The dropped checkpoint, and one as an engine leaves it."""
    base = write_checkpoint(tmp_path / "base", shard_size="20KB")
    export_checkpoint(open_checkpoint(base), DROPS, tmp_path / "dropped", provenance={"plan": "block-1"})
    return tmp_path / "dropped", write_rounded(base, DROPS, tmp_path / "packed", "awq")


def test_scales_become_float16_and_every_other_tensor_stays(folders, tmp_path):
    dropped, packed = folders
    edit_tensor(packed, SCALES, lambda scales: scales.bfloat16())
    write_packed_checkpoint(dropped, packed, SPEC, torch.bfloat16, tmp_path / "made")
    made, engine = (load_file(folder / "model.safetensors") for folder in (tmp_path / "made", packed))
    assert made.keys() == engine.keys()
    assert made[SCALES].dtype == torch.float16
    for name, tensor in made.items():
        assert torch.equal(tensor, engine[name].to(tensor.dtype)), name
        assert name == SCALES or tensor.dtype == engine[name].dtype


def test_nothing_of_the_16_bit_weights_is_taken(folders, tmp_path):
    dropped, packed = folders
    assert len(list(dropped.glob("*.safetensors"))) > 1
    write_packed_checkpoint(dropped, packed, SPEC, torch.float16, tmp_path / "made")
    names = {path.name for path in (tmp_path / "made").iterdir()}
    weights = {path.name for path in dropped.glob("*.safetensors*")}
    assert names == {path.name for path in dropped.iterdir()} - weights | {"model.safetensors"}


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_scales_that_are_no_float16_numbers_are_an_error(folders, tmp_path, value):
    dropped, packed = folders
    edit_tensor(packed, SCALES, lambda scales: torch.full_like(scales, value, dtype=torch.bfloat16))
    with pytest.raises(WorkerFailedError, match=rf"{SCALES} is not finite"):
        write_packed_checkpoint(dropped, packed, SPEC, torch.float16, tmp_path / "made")
