"""Several plans on one pass of the base: the bytes that each has alone, and the base's layers called once."""

import pytest
import tiny_models
import torch

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import RefitSettings
from drop_ray.refit.streams import Layers, Stream

IDS = tiny_models.token_ids(24, 32)
HELD_OUT = range(20, 24)
# With runs of different lengths, from the first layer on, the last alone, a whole block in the middle of others' runs.
PLANS = {
    "runs": DropLists((1, 2), (1,)),
    "first": DropLists((0,), ()),
    "last": DropLists((), (3,)),
    "block": DropLists((2,), (2,)),
    "nothing": DropLists(),
}


def refit(folder, names, ridge=0.1, known=None):
    """({plan: {layer: LayerFit}}, {plan: held out}, progress)."""
    base = open_checkpoint(folder)
    refitting = Refitting(base, IDS, HELD_OUT, RefitSettings(ridge, 3, torch.float32, "eager"))
    plans = {name: refitting.add(base, PLANS[name], (known or {}).get(name, {}).get) for name in names}
    found, told = {name: {} for name in names}, []
    for plan, fit in refitting.layers(lambda *counts: told.append(counts)):
        (name,) = (name for name, other in plans.items() if other is plan)
        found[name][fit.layer] = fit
    return found, {name: plan.held_out for name, plan in plans.items()}, told


def assert_same(one, other):
    assert one.keys() == other.keys()
    for layer, fit in one.items():
        assert fit.fits == other[layer].fits
        assert fit.tensors.keys() == other[layer].tensors.keys()
        assert all(torch.equal(tensor, other[layer].tensors[name]) for name, tensor in fit.tensors.items())


@pytest.fixture(scope="module")
def alone(llama_folder):
    found = {name: refit(llama_folder, [name]) for name in PLANS}
    return {name: one[0][name] for name, one in found.items()}, {name: one[1][name] for name, one in found.items()}


def test_each_plan_gets_the_bytes_that_it_gets_alone(llama_folder, alone):
    found, held_out, told = refit(llama_folder, PLANS)
    for name in PLANS:
        assert_same(found[name], alone[0][name])
    assert held_out == alone[1]
    assert held_out["nothing"] == []
    total = sum(map(len, found.values()))
    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_layers_that_are_known_are_not_done_again_beside_those_that_are_not(llama_folder, alone):
    names = ["runs", "first", "block"]
    tensors = {name: {layer: fit.tensors for layer, fit in alone[0][name].items()} for name in names}
    first = min(tensors["first"])
    known = {"runs": tensors["runs"], "first": {first: tensors["first"][first]}}
    found, held_out, told = refit(llama_folder, names, known=known)
    assert found["runs"] == {}
    assert_same(found["first"], {layer: fit for layer, fit in alone[0]["first"].items() if layer != first})
    assert_same(found["block"], alone[0]["block"])
    assert held_out == {name: alone[1][name] for name in names}
    assert told[-1][0] == told[-1][1] == sum(len(tensors[name]) for name in names)


def test_the_bases_layers_are_called_once_for_all(llama_folder, monkeypatch):
    streams, after = [], Stream.after

    def count(self, layer, number, index):
        streams.append(id(self))
        return after(self, layer, number, index)

    monkeypatch.setattr(Stream, "after", count)
    calls = []
    for names in (["runs"], ["block"], ["runs", "block"]):
        streams.clear()
        refit(llama_folder, names)
        calls.append(len(streams))
    batches = 7 + 2  # of 20 samples, and of 4 held out
    # Four layers; some in two calls, where a plan asks for the state between attention and MLP.
    assert 4 * batches <= calls[0] + calls[1] - calls[2] <= 8 * batches


def test_a_layer_that_waits_is_on_the_host_until_it_is_asked_for():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.moves = []

        def to(self, device):
            self.moves.append(device)

    made = [Layer(), Layer()]
    layers = Layers(iter(made), 5, "cuda")
    layers.park()
    assert layers.at(5) is layers.at(5) is made[0]
    layers.park()
    assert layers.at(5) is made[0]
    assert made[0].moves == ["cpu", "cuda"]
    layers.park()
    assert layers.at(6) is layers.at(6) is made[1]
    assert made[1].moves == []
