"""A model as changed: names, equality, and what of it identifies a result."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from drop_ray.config import QuantizationSpec
from drop_ray.errors import UserError
from drop_ray.extensions import CHANGES
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.changes import Change, Drop, Patch
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.planning.variants import distinct, variant_of
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.section import QUANTIZATION

MODEL = "0" * 64
SAMPLES = {"source": "1" * 64, "num_samples": 32}


def variant(name, attn=(), mlp=()):
    return variant_of(MODEL, DropPlan(name, attn, mlp))


def quantize(method="gptq", **fields):
    return Quantize(QuantizationSpec(method=method, **fields), "float16", SAMPLES)


BASE, TWO, SAME = variant("base"), variant("attention-2", (3, 1)), variant("by-hand", (1, 3))
AWQ, GPTQ = quantize("awq"), quantize(name="gptq-8", bits=8)


def names(variants):
    return [each.name for each in variants]


def quantized(changes, variants):
    lines = SimpleNamespace(quantization=[change.spec for change in changes])
    return QUANTIZATION.variants(SimpleNamespace(config=lines, changes={"quantization": changes}), BASE, variants)


def test_the_base_and_every_plan_are_quantized_by_each_line():
    made = quantized([AWQ, GPTQ], [TWO])
    assert names(made) == ["base-awq", "attention-2-awq", "base-gptq-8", "attention-2-gptq-8"]


def test_only_named_plans_are_quantized_and_the_base_always():
    made = quantized([quantize(plans=["by-hand"])], [TWO, SAME])
    assert names(made) == ["base-gptq", "by-hand-gptq"]


def test_equal_changes_are_one_variant_whatever_their_names():
    others = [TWO, SAME, TWO.then(AWQ), SAME.then(AWQ), TWO.then(GPTQ), BASE]
    assert names(distinct(others)) == ["attention-2", "attention-2-awq", "attention-2-gptq-8", "base"]


def test_lines_that_differ_in_name_and_plans_only_are_one_change():
    renamed = quantize(bits=8, plans=["attention-2"])
    assert renamed == GPTQ
    assert TWO.then(renamed).made_by == TWO.then(GPTQ).made_by
    assert quantize(bits=4) != GPTQ
    assert Quantize(GPTQ.spec, "bfloat16", SAMPLES) != GPTQ


def test_an_identity_says_what_is_gone_and_what_made_the_checkpoint():
    assert BASE.identity() == {"drop_attn": [], "drop_mlp": []}
    assert TWO.identity() == {"drop_attn": [1, 3], "drop_mlp": []}
    assert TWO.then(AWQ).identity() == {**TWO.identity(), "quantized": TWO.then(AWQ).made_by.family}
    assert {BASE.then(AWQ).made_by.path, TWO.then(AWQ).made_by.path} == {
        *(each.made_by.path for each in [BASE.then(AWQ), SAME.then(AWQ)])
    }


class Scale(Change):
    kind = "scale"
    label = "scaled"

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    def identity(self):
        return {"factor": self.factor}

    def to_json(self):
        return {"kind": "scale", "factor": self.factor}


@pytest.fixture
def scale(monkeypatch):
    own = {**CHANGES.own, "scale": f"{__name__}:Scale"}
    monkeypatch.setattr("drop_ray.planning.changes.CHANGES", replace(CHANGES, own=own))


def write(path, **values):
    path.write_text(json.dumps(values))
    return path


def test_a_plan_file_may_list_changes_and_reads_back_as_it_was_written(tmp_path, scale):
    entries = [
        {"kind": "drop", "attn": [2], "mlp": [0]},
        {"kind": "scale", "factor": 0.5},
        {"kind": "drop", "attn": [1]},
    ]
    plan = read_plan(write(tmp_path / "mine.json", changes=entries), Layers(4), MODEL)
    assert (plan.name, plan.drop_attn, plan.drop_mlp) == ("mine", (2, 1), (0,))
    made = variant_of(MODEL, plan)
    assert made.identity() == {
        "drop_attn": [1, 2],
        "drop_mlp": [0],
        "changes": [{"kind": "scale", "factor": 0.5}],
    }
    again = tmp_path / "again.json"
    again.write_text(plan.to_json())
    assert variant_of(MODEL, read_plan(again, Layers(4), MODEL)) == made


def test_a_plan_without_further_changes_is_written_as_ever():
    assert "changes" not in json.loads(TWO.plan.to_json())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "drop"}, "changes must be a list"),
        ([7], r"changes\[0\]: a change is an object with a `kind`"),
        ([{"attn": [1]}], r"changes\[0\]: a change is an object with a `kind`"),
        ([{"kind": "shrink"}], r"changes\[0\]: there is no kind of change shrink; there are: drop"),
        ([{"kind": "drop", "attn": ["1"]}], r"changes\[0\]: drop: attn must be a list of layer numbers"),
        ([{"kind": "drop", "layers": [1]}], r"changes\[0\]: drop: unknown key layers; a drop has `attn` and `mlp`"),
        ([{"kind": "drop", "attn": [9]}], "drop_attn names layer 9, but the model has layers 0 to 3"),
        ([], "drops nothing"),
    ],
)
def test_changes_that_do_not_fit_are_named_with_the_file(tmp_path, entries, message):
    with pytest.raises(UserError, match=message) as raised:
        read_plan(write(tmp_path / "mine.json", changes=entries), Layers(4), MODEL)
    assert str(tmp_path / "mine.json") in str(raised.value)


def test_a_change_whose_values_do_not_fit_is_named(tmp_path, scale):
    path = write(tmp_path / "mine.json", changes=[{"kind": "scale", "by": 2}])
    with pytest.raises(UserError, match=r"changes\[0\]: scale: .*unexpected keyword argument 'by'"):
        read_plan(path, Layers(4), MODEL)


def test_a_drop_of_nothing_is_no_change():
    assert BASE.changes == ()
    assert TWO.changes == (Drop(TWO.drops),)


class Computed(Patch):
    """A patch that any model may have."""

    kind = "computed"
    label = "computed"

    def identity(self):
        return {}

    def step(self, base, before):
        raise NotImplementedError


def test_one_patch_of_two_models_has_two_kinds_of_values():
    one, other = (variant(name, attn=attn).then(Computed()) for name, attn in (("a", (1,)), ("b", (2,))))
    assert one.edits == other.edits
    assert one.up_to_edits != other.up_to_edits
    assert one.then(Drop(DropLists((3,)), "c")).up_to_edits == one.up_to_edits
    assert variant("a", attn=(1,)).up_to_edits == ()
