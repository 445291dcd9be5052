"""A checkpoint with edited tensors: whoever reads or copies them gets the new values, and all others as they are."""

import io
from dataclasses import dataclass

import pytest
import torch

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.edited import edited

NAME, OTHER = "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"


@dataclass(frozen=True)
class Edit:
    name: str = NAME
    by: float = 2.0
    dtype: torch.dtype | None = None
    rows: int | None = None

    def edits(self, name):
        return name == self.name

    def edit(self, name, tensor):
        return (tensor * self.by)[: self.rows].to(self.dtype or tensor.dtype)


@pytest.fixture(scope="module")
def checkpoint(llama_folder):
    return open_checkpoint(llama_folder)


def copied(checkpoint, name):
    target = io.BytesIO()
    next(shard for shard in checkpoint.shards if name in shard.tensors).copy(name, target)
    return torch.frombuffer(bytearray(target.getvalue()), dtype=torch.float32)


def test_edits_are_applied_in_turn_to_what_is_read_and_to_what_is_copied(checkpoint):
    changed = edited(checkpoint, [Edit(), Edit(by=0.25)])
    before, after = checkpoint.read([NAME, OTHER]), changed.read([NAME, OTHER])
    assert torch.equal(after[NAME], before[NAME] * 2.0 * 0.25)
    assert torch.equal(after[OTHER], before[OTHER])
    assert torch.equal(copied(changed, NAME), after[NAME].flatten())
    assert torch.equal(copied(changed, OTHER), copied(checkpoint, OTHER))
    assert checkpoint.read([NAME])[NAME].equal(before[NAME])


@pytest.mark.parametrize("edit", [Edit(dtype=torch.float64), Edit(rows=1)])
def test_an_edit_of_shape_or_dtype_is_refused_by_the_tensors_name(checkpoint, edit):
    with pytest.raises(UserError, match=f"a change made {NAME} .* an edit must keep shape and dtype"):
        edited(checkpoint, [edit]).read([NAME])


def test_an_edit_that_no_tensor_has_a_use_for_is_refused(checkpoint):
    with pytest.raises(UserError, match="changes no tensor of .*; does it name the model's own tensors"):
        edited(checkpoint, [Edit(), Edit(name="model.layers.99.mlp.down_proj.weight")])
