"""From config lines to plan requests, and plans as files."""

import json

import pytest

from drop_ray.config import PlanSpec
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.planning.requests import gaps_of, plan_requests
from drop_ray.planning.scores import Importance, ScoreTable


def requests(*specs, num_layers=8, dropped=DropLists()):
    return plan_requests([PlanSpec(**spec) for spec in specs], Layers(num_layers), dropped, "cosine")


def test_a_sweep_makes_many_plans_with_names_that_tell_them_apart():
    made = requests(
        {"strategy": "attention", "drop": [2, 4]},
        {"strategy": "attention", "drop": 4, "iterative": 2},
        {"strategy": "block_consecutive", "drop": [3]},
        {"strategy": "random", "of": "mlp", "seed": 5, "drop": [1]},
        {"strategy": "reverse", "of": "joint", "drop": [1]},
        {"strategy": "attention", "drop": [2]},
    )
    assert [request.name for request in made] == [
        "attention-2",
        "attention-4",
        "attention-4-iterative2",
        "block_consecutive-3",
        "random-mlp-1-seed5",
        "reverse-joint-1",
    ]
    assert gaps_of(made) == (1, 3)


def test_a_plan_by_another_metric_than_the_runs_first_says_so_in_its_name():
    made = requests(
        {"strategy": "attention", "drop": 4, "metric": "angular"},
        {"strategy": "attention", "drop": 4, "metric": "cosine"},
        {"strategy": "attention", "drop": 4, "iterative": 2, "metric": "angular"},
        {"strategy": "block_consecutive", "drop": 2, "metric": "angular"},
    )
    assert {request.name: request.metric for request in made} == {
        "attention-4-angular": "angular",
        "attention-4": "cosine",
        "attention-4-iterative2-angular": "angular",
        "block_consecutive-2-angular": "angular",
    }
    assert gaps_of(made) == (1, 2)


def test_a_plan_ranks_by_its_own_metric():
    tables = {
        "cosine": ScoreTable({("attention", layer, 1): Importance(0.1 * layer, 0.0) for layer in range(3)}),
        "angular": ScoreTable({("attention", layer, 1): Importance(-0.1 * layer, 0.0) for layer in range(3)}),
    }
    for metric, layer in (("cosine", 0), ("angular", 2)):
        (request,) = requests({"strategy": "attention", "drop": 1, "metric": metric}, num_layers=3)
        assert [module.layer for module in request.choose(tables, Layers(3), DropLists(), 1)] == [layer]


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({"strategy": "attention"}, "8 attention layers"),
        ({"strategy": "joint"}, "16 attention layers and MLPs"),
        ({"strategy": "block_consecutive"}, "8 blocks"),
        ({"strategy": "random", "of": "mlp"}, "8 MLPs"),
    ],
)
def test_more_than_the_model_has_is_refused(spec, most):
    number = int(most.split()[0])
    assert requests({**spec, "drop": [number]})
    with pytest.raises(UserError, match=rf"plans\[0\].drop: {number + 1} is more than the model's {most}"):
        requests({**spec, "drop": [number + 1]})


def test_what_the_model_already_lacks_does_not_count():
    with pytest.raises(UserError, match="7 is more than the model's 6 attention layers"):
        requests({"strategy": "attention", "drop": [7]}, dropped=DropLists((1, 2)))


def write(tmp_path, **values):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(values))
    return path


def test_a_plan_by_hand_needs_only_its_lists(tmp_path):
    plan = read_plan(write(tmp_path, drop_attn=[3, 1]), Layers(8), "id")
    assert (plan.name, plan.drop_attn, plan.drop_mlp) == ("mine", (3, 1), ())


@pytest.mark.parametrize("attn", [[1, 3], [False, True, False, True]])
def test_a_plan_may_be_spelt_as_a_checkpoint_spells_its_lists(tmp_path, attn):
    path = write(tmp_path, drop_attn_list=attn, drop_mlp_list=[])
    assert read_plan(path, Layers(4), "id") == DropPlan("mine", (1, 3), ())
    path = write(tmp_path, drop_attn=attn, drop_mlp=[False] * 4)
    assert read_plan(path, Layers(4), "id") == DropPlan("mine", (1, 3), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"drop_attn": [1], "drop_attn": [2]}', "the key 'drop_attn' stands twice"),
        ('{"drop_attn": [NaN]}', "NaN is not a number"),
        ("[" * 5000, "nested deeper than 100 levels"),
        ('{"drop_attn": [1', "is not JSON: .* in line 1, column 17"),
        ("[1]", "a plan is an object like"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"plan .*mine.json: .*{message}"):
        read_plan(path, Layers(8), "id")


def test_a_plan_without_a_name_of_its_own_must_lie_in_a_file_that_gives_one(tmp_path):
    path = write(tmp_path, drop_attn=[1]).rename(tmp_path / "a b.json")
    with pytest.raises(UserError, match="a b.json: name: 'a b' cannot name a file"):
        read_plan(path, Layers(8), "id")


def test_a_plan_survives_its_file(tmp_path):
    plan = DropPlan("a", (3, 1), (2,), "joint", "cosine", "id", "cal", 10, 20)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert read_plan(path, Layers(8), "id") == plan


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"drop_attn": [8]}, "drop_attn names layer 8, but the model has layers 0 to 7"),
        ({"drop_mlp": [-1]}, "drop_mlp names layer -1"),
        ({"drop_attn": [2, 2]}, "layer 2 more than once"),
        ({"drop_attn": ["2"]}, "must be a list of layer numbers"),
        ({"drop_attn": [True]}, "drop_attn has 1 booleans for 8 layers; list one for each layer"),
        ({"drop_attn": [True, 1]}, "must be a list of layer numbers"),
        ({"drop_attn": None}, "must be a list of layer numbers"),
        ({"drop_attn": [1], "drop_attn_list": [1]}, "both drop_attn and drop_attn_list, which are one list"),
        ({"drop_attn": [1], "parameters": "many"}, "mine.json: parameters must be a number, not str"),
        ({"drop_attn": [1], "kv_bytes_per_token": 1.5}, "kv_bytes_per_token must be a number, not float"),
        ({"drop_attn": [1], "strategy": None}, "mine.json: strategy must be a text, not NoneType"),
        ({"drop_attn": [1], "metric": ["cosine"]}, "mine.json: metric must be a text, not list"),
        ({"drop_attn": [1], "model_identity": 7}, "mine.json: model_identity must be a text, not int"),
        ({"drop_attn": [1], "format": ["a"]}, "format a value of type list is not drop-plan/1"),
        ({"drop": [2]}, "unknown key 'drop'; valid: name, drop_attn"),
        ({"drop_attn": []}, "drops nothing"),
        ({"drop_attn": [1], "format": "drop-plan/9"}, "format 'drop-plan/9' is not"),
        ({"drop_attn": [1], "model_identity": "other"}, "made for another model"),
        ({"drop_attn": [1], "name": "../../../../outside/settings"}, "mine.json: name: .* cannot name a file; use"),
        ({"drop_attn": [1], "name": ""}, "mine.json: name: '' cannot name a file"),
        ({"drop_attn": [1], "name": None}, "mine.json: name: a value of type NoneType is not a text"),
        ({"drop_attn": [1], "name": "x" * 300}, "mine.json: name: .* has 300 characters"),
        ({"drop_attn": [1], "name": "b\u0430se"}, r"mine.json: name: 'b.u0430se' cannot name a file"),
        ({"drop_attn": [1], "name": "base"}, "mine.json: name: base is the model as given; give the plan another"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        read_plan(write(tmp_path, **values), Layers(8), "id")
