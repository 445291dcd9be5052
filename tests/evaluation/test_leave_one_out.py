"""Every module of a model left out by itself: exactly what two whole models give in float64, on the same path."""

import pytest
import torch
from tiny_models import token_ids, write_checkpoint

from drop_ray.evaluation.divergence.branches import Branch, advance
from drop_ray.evaluation.divergence.state_models import LayeredModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model

IDS, LAYERS = token_ids(3, 16), range(4)
SETTINGS = DivergenceSettings(micro_batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return LayeredModel(open_checkpoint(folder), dtype=torch.float64, attn_implementation="sdpa", placement="resident")


def left_out(base):
    """By name, of attention, MLPs and blocks; of layer 0, too."""
    lists = {f"attention {n}": DropLists((n,)) for n in LAYERS}
    lists |= {f"mlp {n}": DropLists((), (n,)) for n in LAYERS} | {f"block {n}": DropLists((n,), (n,)) for n in LAYERS}
    return {name: drops.union(base) for name, drops in lists.items()}


@pytest.mark.parametrize("base", [DropLists(), DropLists((1,), (2,))], ids=str)
def test_every_candidate_is_the_comparison_of_two_whole_models_in_float64(folder, model, base):
    """base: what the base itself lacks, too."""
    variants = {name: Compared(model, drops) for name, drops in left_out(base).items()}
    found = compare_with_base(Compared(model, base), variants, IDS, SETTINGS).found

    def predicted(drops):
        with torch.no_grad():
            return load_model(folder, drops, dtype=torch.float64)(IDS).logits[:, :-1].log_softmax(-1)

    of_base = predicted(base)
    for name, drops in left_out(base).items():
        without = predicted(drops)
        kl = (of_base.exp() * (of_base - without)).sum(-1)
        increase = (of_base - without).gather(-1, IDS[:, 1:, None])[..., 0]
        assert torch.from_numpy(found[name].kl).allclose(kl, rtol=1e-7, atol=1e-12)
        measured = torch.from_numpy(found[name].variant_nll - found[name].base_nll)
        assert measured.allclose(increase, rtol=1e-7, atol=1e-10)
    assert found["attention 0"].kl.mean() > 1e-6


def test_candidates_take_the_passes_that_they_are_dealt_by(model):
    """The base's 8, and behind each candidate what it does not share: 2 n^2 - n of n layers in all."""
    calls = []
    hooks = [
        getattr(layer, name).register_forward_hook(lambda *_: calls.append(1))
        for layer in model._model.base_model.layers
        for name in ("self_attn", "mlp")
    ]
    drops = [lists for name, lists in left_out(DropLists()).items() if "block" not in name]
    model.states([IDS], [DropLists(), *drops], lambda: None)
    for hook in hooks:
        hook.remove()
    assert len(calls) == 8 + 2 * 4 * 4 - 4


def test_states_before_a_layer_are_let_go_while_those_behind_it_are_made(model):
    layer = model._model.base_model.layers[0]
    branches = [Branch(torch.zeros(1, 2, 32, dtype=torch.float64), (DropLists((0,), (0,)),)) for _ in range(3)]
    after = advance(layer, 0, branches, {}, "cpu", "cpu", has_middle=True)
    assert branches == []
    assert len(after) == 3
