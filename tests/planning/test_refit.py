"""Refitting as a change: names of variants, what identifies them, and what a later change sees of them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from drop_ray.config import QuantizationSpec, RefitSpec
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.refit_section import REFIT, _check_tokens
from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Drop, TensorEdit
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.refit import Refit, layer_step
from drop_ray.planning.variants import distinct, variant_of
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.section import QUANTIZATION
from drop_ray.store import Commit

MODEL = "0" * 64
SETTINGS = {"dtype": "float32", "attn_implementation": None, "micro_batch": 4}
SAMPLES = {"source": "1" * 64, "num_samples": 32}
AWQ = Quantize(QuantizationSpec(method="awq"), "float16", SAMPLES)


def variant(name, attn=(), mlp=()):
    return variant_of(MODEL, DropPlan(name, attn, mlp))


def refit(**fields):
    return Refit(RefitSpec(**fields), SETTINGS, SAMPLES)


BASE, TWO, SAME = variant("base"), variant("attention-2", (3, 1)), variant("by-hand", (1, 3))


def made(section, changes, variants, base=BASE):
    lines = SimpleNamespace(**{section.field: [change.spec for change in changes]})
    job = SimpleNamespace(config=lines, changes={section.field: changes})
    found = list(section.variants(job, base, variants))
    # What a config may name is what there will be.
    assert {*(one.name for one in found)} <= {*section.names(lines, ["base", *(one.name for one in variants)])}
    return found


def names(variants):
    return [each.name for each in variants]


def test_every_plan_is_refitted_by_each_line_and_the_base_by_none():
    found = made(REFIT, [refit(), refit(name="strong", ridge=1.0, plans=["by-hand"])], [TWO, SAME])
    assert names(found) == ["attention-2-refit", "by-hand-refit", "by-hand-strong"]


def test_what_drops_nothing_is_not_refitted():
    lacking = variant("base", (0,))
    plan = replace(variant("edited", (0,)), changes=(*lacking.changes, Half()))
    assert names(made(REFIT, [refit()], [plan, TWO], base=lacking)) == ["attention-2-refit"]


class Half(TensorEdit):
    kind = "half"
    label = "half"

    def identity(self):
        return {}

    def edits(self, name):
        return True

    def edit(self, name, tensor):
        return tensor / 2


def test_refitted_plans_are_quantized_after_it():
    refitted = made(REFIT, [refit()], [TWO])
    found = made(QUANTIZATION, [AWQ], [TWO, *refitted])
    assert names(found) == ["base-awq", "attention-2-awq", "attention-2-refit-awq"]
    assert found[2].before == refitted[0]
    assert found[2].before.name == "attention-2-refit"
    only = replace_plans(AWQ, ["attention-2-refit"])
    assert names(made(QUANTIZATION, [only], [TWO, *refitted])) == ["base-awq", "attention-2-refit-awq"]


def replace_plans(change, plans):
    return Quantize(QuantizationSpec(method="awq", plans=plans), change.dtype, change.samples)


def test_equal_refits_are_one_variant_whatever_their_names_and_results():
    done = Commit(TWO.then(AWQ).made_by, "0" * 8, {}, {}, {}, "now")
    others = [
        TWO.then(refit()),
        SAME.then(refit(name="again", plans=["by-hand"])),
        TWO.then(replace(refit(), made=done)),
    ]
    assert names(distinct(others)) == ["attention-2-refit"]
    for change in (
        refit(ridge=0.1),
        refit(num_samples=4),
        refit(held_out=4),
        Refit(RefitSpec(), SETTINGS, {"source": "2"}),
    ):
        assert TWO.then(change) != others[0]
        assert steps.export_step(TWO.then(change)) != steps.export_step(others[0])
    assert Refit(RefitSpec(), {**SETTINGS, "micro_batch": 8}, SAMPLES) != refit()


def test_a_step_is_of_what_was_changed_before_and_a_layer_is_a_part_of_it():
    step = refit().step(MODEL, TWO.identity())
    assert step.identity["drop_attn"] == [1, 3]
    assert step.identity["versions"].keys() == {"torch", "transformers"}
    parts = {layer_step(step, layer).path for layer in (0, 1)}
    assert len(parts | {step.path}) == 3
    assert {"torch", "transformers"} <= steps.export_step(TWO.then(refit())).identity["versions"].keys()
    assert steps.export_step(TWO).identity["versions"].keys() == {"transformers"}


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ({}, "set calibration.num_samples to 24 or more"),
        ({"num_samples": 10}, r"set refit \(refit\).num_samples to 16 or more, and calibration.num_samples to 24"),
        ({"text": {"source": "a.txt", "num_samples": 20, "seq_len": 64}}, r"refit \(refit\).text.num_samples to 24"),
    ],
)
def test_too_few_tokens_are_refused_with_the_number_that_would_do(spec, remedy):
    calibration = SimpleNamespace(num_samples=20, seq_len=64)
    with pytest.raises(UserError, match=remedy):
        _check_tokens(SimpleNamespace(calibration=calibration), RefitSpec(**spec), 256)
    calibration.num_samples = 24
    _check_tokens(SimpleNamespace(calibration=calibration), RefitSpec(), 256)


def test_what_is_dropped_after_a_refit_is_told_from_what_it_was_fitted_without():
    """Both lack the same sub-layers; but the tensors of the one were fitted with layer 3 still there."""
    change = refit()
    before = variant("fitted", (1,)).then(change).then(Drop(DropLists((3,))))
    after = variant("fitted", (1, 3)).then(change)
    assert before.drops == after.drops
    assert before.identity() != after.identity()
    assert before.identity()["changes"][0]["of"] == {"drop_attn": [1], "drop_mlp": []}
    assert "of" not in after.identity()["changes"][0]
