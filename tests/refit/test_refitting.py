"""Refitting layer by layer: the solution of another program, and the same whatever was done before."""

import math

import pytest
import tiny_models
import torch
import whole_model

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.edited import edited
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.refit.fitting import RIDGES
from drop_ray.refit.patch import PatchTensors, layer_file, write_tensors
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import RefitSettings

IDS = tiny_models.token_ids(24, 32)
FITTED, HELD_OUT = 20, range(20, 24)
DROPS = DropLists((1, 2), (1,))


class One:
    """The refit of one plan."""

    def __init__(self, folder, drops=DROPS, ridge=0.1, source=None, known=lambda _: None, **fields):
        base = open_checkpoint(folder)
        settings = RefitSettings(
            **{"ridge": ridge, "micro_batch": 3, "dtype": torch.float64, "attn_implementation": "eager"} | fields
        )
        self._refitting = Refitting(base, IDS, HELD_OUT, settings)
        self.plan = self._refitting.add(source or base, drops, known)

    def layers(self):
        return (fit for _, fit in self._refitting.layers())

    @property
    def held_out(self):
        return self.plan.held_out


def tensors_of(fits):
    return {name: tensor for fit in fits for name, tensor in fit.tensors.items()}


CASES = {
    "Llama": ("LlamaForCausalLM", {}, DROPS),
    "Llama, a run of blocks": ("LlamaForCausalLM", {}, DropLists((1, 2), (1, 2))),
    "Llama, the first": ("LlamaForCausalLM", {}, DropLists((0,), ())),
    "Llama, biases": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}, DROPS),
    "Qwen2": ("Qwen2ForCausalLM", {}, DROPS),
    "Mixtral": ("MixtralForCausalLM", {}, DROPS),
    "OLMo 2": ("Olmo2ForCausalLM", {}, DROPS),
    "Gemma 2": ("Gemma2ForCausalLM", {}, DROPS),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_solution_of_another_program(case, tmp_path):
    architecture, fields, drops = CASES[case]
    folder = tiny_models.write_checkpoint(tmp_path / "model", architecture, **fields)
    # No kernel of experts takes float64.
    is_mixture = architecture == "MixtralForCausalLM"
    dtype, tolerance = (torch.float32, 1e-4) if is_mixture else (torch.float64, 1e-6)
    work = One(folder, drops, dtype=dtype)
    fits = list(work.layers())
    found = tensors_of(fits)
    base, model = (load_model(folder, dtype=dtype, attn_implementation="eager") for _ in range(2))
    expected = whole_model.refit(base, model, architecture, drops, IDS[:FITTED], 0.1)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name] - tensor).norm() <= tolerance * tensor.norm(), name
        assert found[name].dtype == torch.float32
    rows = [row for fit in fits for row in fit.fits]
    assert all(row.fitted_after < row.fitted_before and row.tokens == FITTED * IDS.shape[1] for row in rows)
    # Experts are left alone, attention beside them is not.
    assert not any("expert" in name for name in found)
    assert {row.module for row in rows} == (
        {"attention"} if architecture == "MixtralForCausalLM" else {"attention", "mlp"}
    )
    assert [one.sample for one in work.held_out] == list(HELD_OUT)


def test_divergences_are_those_of_the_loaded_models(llama_folder, tmp_path):
    work = One(llama_folder, ridge=1.0)
    for fit in work.layers():
        write_tensors(tmp_path / layer_file(fit.layer), fit.tensors)
    checkpoint = open_checkpoint(llama_folder)
    load = lambda source, drops: load_model(source, drops, dtype=torch.float64)  # noqa: E731
    base, dropped = load(checkpoint, DropLists()), load(checkpoint, DROPS)
    refitted = load(edited(checkpoint, [PatchTensors(tmp_path)]), DROPS)
    for one in work.held_out:
        expected, raw, new = (
            tiny_models.logits_of(model, IDS[one.sample, None]).log_softmax(-1) for model in (base, dropped, refitted)
        )
        assert one.kl_dropped == pytest.approx(float((expected.exp() * (expected - raw)).sum(-1).mean()), rel=1e-5)
        assert one.kl_refitted == pytest.approx(float((expected.exp() * (expected - new)).sum(-1).mean()), rel=1e-5)
        assert one.tokens == IDS.shape[1]


@pytest.mark.parametrize("ridge", [0.1, None])
def test_what_was_done_before_is_not_done_again_and_changes_no_byte(llama_folder, ridge):
    whole = One(llama_folder, ridge=ridge, dtype=torch.float32)
    fits = {fit.layer: fit for fit in whole.layers()}
    assert list(fits) == [0, 2, 3]  # layer 1 is gone as a whole
    for known in ({}, {*list(fits)[:1]}, {*list(fits)[:-1]}, {*fits}):
        look_up = lambda layer, known=known: fits[layer].tensors if layer in known else None  # noqa: E731
        again = One(llama_folder, ridge=ridge, dtype=torch.float32, known=look_up)
        rest = list(again.layers())
        assert {fit.layer for fit in rest} == fits.keys() - known
        for fit in rest:
            assert fit.fits == fits[fit.layer].fits
            assert all(torch.equal(tensor, fits[fit.layer].tensors[name]) for name, tensor in fit.tensors.items())
        assert again.held_out == whole.held_out


def test_a_sublayer_that_adds_nothing_leaves_every_weight_as_it_is(tmp_path):
    model = tiny_models.make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
    model.save_pretrained(tmp_path)
    found = tensors_of(One(tmp_path, DropLists((), (1,))).layers())
    assert {name.split(".", 3)[-1] for name in found} == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}
    weights = dict(model.named_parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


def test_a_sublayer_that_adds_a_constant_comes_back_as_a_bias(tmp_path):
    model = tiny_models.make_model(attention_bias=True, mlp_bias=True)
    constant = torch.randn(32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
        model.model.layers[2].self_attn.o_proj.bias.copy_(constant)
    model.save_pretrained(tmp_path)
    work = One(tmp_path, DropLists((2,), ()))
    found = tensors_of(work.layers())
    weights = dict(model.named_parameters())
    before = "model.layers.1.mlp.down_proj"
    torch.testing.assert_close(found[f"{before}.weight"], weights[f"{before}.weight"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[f"{before}.bias"], weights[f"{before}.bias"] + constant, rtol=1e-5, atol=1e-6)
    assert all(one.kl_refitted < 1e-6 < 1e-3 < one.kl_dropped for one in work.held_out)


def test_the_ridge_is_the_one_that_leaves_least_of_held_out_samples(llama_folder):
    chosen = [row for fit in One(llama_folder, ridge=None).layers() for row in fit.fits]
    assert all(row.ridge in {*RIDGES, math.inf} for row in chosen)
    first = chosen[0]
    by_hand = {}
    for ridge in RIDGES:
        (fit, *_) = One(llama_folder, ridge=ridge).layers()
        by_hand[ridge] = fit.fits[0].held_out_after
    best = min(by_hand.values())
    assert first.held_out_after <= first.held_out_before
    assert first.held_out_after == pytest.approx(min(best, first.held_out_before), rel=1e-6)


def test_a_base_whose_values_were_changed_is_refitted_from_its_first_layer_on(llama_folder):
    class Half:
        def edits(self, name):
            return name == "model.layers.0.mlp.down_proj.weight"

        def edit(self, name, tensor):
            return tensor / 2

    base = open_checkpoint(llama_folder)
    work = One(llama_folder, DropLists((3,), ()), source=edited(base, [Half()]), ridge=1e-3)
    fits = list(work.layers())
    assert [fit.layer for fit in fits] == [0, 1, 2, 3]
    original = base.read(["model.layers.0.mlp.down_proj.weight"])["model.layers.0.mlp.down_proj.weight"]
    found = fits[0].tensors["model.layers.0.mlp.down_proj.weight"]
    # What was halved is what lacks, and so it comes back.
    assert (found - original).norm() < 0.2 * (original / 2 - original).norm()


def test_a_model_that_lacks_sublayers_itself_is_refitted_for_the_others_only(tmp_path):
    from drop_ray.models.export import export_checkpoint

    folder = tiny_models.write_checkpoint(tmp_path / "model")
    export_checkpoint(open_checkpoint(folder), DropLists((0,), ()), tmp_path / "dropped")
    work = One(tmp_path / "dropped", DropLists((0, 3), ()))
    names = {*tensors_of(work.layers())}
    assert names == {"model.layers.2.mlp.down_proj.weight", "model.layers.3.mlp.down_proj.weight"}
    assert list(One(tmp_path / "dropped", DropLists((0,), ())).layers()) == []


@pytest.mark.parametrize("ridge", [0.1, None])
def test_the_way_of_gpus_gives_the_same_refit(llama_folder, ridge, monkeypatch):
    exact = tensors_of(One(llama_folder, ridge=ridge, dtype=torch.float32).layers())
    monkeypatch.setattr(RefitSettings, "exact", False)
    found = tensors_of(One(llama_folder, ridge=ridge, dtype=torch.float32).layers())
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        assert (found[name] - tensor).norm() < 1e-5 * tensor.norm(), name
