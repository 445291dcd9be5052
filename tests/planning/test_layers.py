"""What may not be dropped, and kinds of mixers: no plan of any strategy has the first, or others than asked for."""

import itertools

import pytest

from drop_ray.config import PlanSpec
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import ATTENTION, BLOCK, MLP, Module, candidates, present
from drop_ray.planning.plans import read_plan
from drop_ray.planning.requests import plan_requests
from drop_ray.planning.scores import Importance, ScoreTable

NOTHING = DropLists()
FULL, LINEAR = "full_attention", "linear_attention"
# Layer 1 has no MLP, layer 2 no mixer, and later layers read the keys of layer 4.
LAYERS = Layers(7, DropLists((2,), (1,)), (4,), (LINEAR, FULL, "", LINEAR, FULL, FULL, LINEAR), (1, 4, 5))


def table():
    """What a sweep gives of such a model: no row of what is not there or must stay, and deeper layers matter less."""
    rows = {(ATTENTION, layer): 7.0 - layer for layer in (0, 1, 3, 5, 6)}
    rows |= {(MLP, layer): 20.0 - layer for layer in (0, 2, 3, 4, 5, 6)}
    rows |= {(BLOCK, layer): 30.0 - layer for layer in (0, 1, 2, 3, 5, 6)}
    found = {(kind, layer, 1): Importance(value, 0.1) for (kind, layer), value in rows.items()}
    found |= {(BLOCK, layer, 2): Importance(50.0 - layer, 0.1) for layer in (0, 1, 2, 5)}
    return {"cosine": ScoreTable(found)}


def requests(*specs, layers=LAYERS):
    return plan_requests([PlanSpec(**spec) for spec in specs], layers, NOTHING, "cosine")


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("attention", [(ATTENTION, layer) for layer in (0, 1, 3, 5, 6)]),
        ("mlp", [(MLP, layer) for layer in (0, 2, 3, 4, 5, 6)]),
        # A block of one sub-layer only is that sub-layer.
        ("block", [(BLOCK, 0), (ATTENTION, 1), (MLP, 2), (BLOCK, 3), (BLOCK, 5), (BLOCK, 6)]),
    ],
)
def test_what_there_is_to_choose_from(of, expected):
    assert [(each.kind, each.layer) for each in present(candidates(of, LAYERS, NOTHING), LAYERS)] == expected


RANDOM = [{"strategy": "random", "of": of, "seed": 3} for of in ("attention", "mlp", "joint", "block")]
ALL = [
    *({"strategy": name} for name in ("attention", "mlp", "joint", "block", "block_consecutive")),
    *RANDOM,
    {"strategy": "reverse", "of": "joint"},
    {"strategy": "reverse", "of": "block"},
]


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_no_strategy_drops_what_is_not_there_or_must_stay(spec):
    (one,) = requests({**spec, "drop": [1]})
    most = len(one.candidates(LAYERS, NOTHING))
    counts = [2] if spec["strategy"] == "block_consecutive" else range(1, most + 1)
    for (request,) in (requests({**spec, "drop": [count]}) for count in counts):
        chosen = request.choose(table(), LAYERS, NOTHING, request.count)
        assert len(chosen) == request.count
        assert {*chosen} <= {Module(kind, layer) for kind in (ATTENTION, MLP, BLOCK) for layer in range(7)}
        lost = [(kind, module.layer) for module in chosen for kind in (ATTENTION, MLP) if module.kind in (kind, BLOCK)]
        assert not {*lost} & {(ATTENTION, 2), (ATTENTION, 4), (MLP, 1)}
    with pytest.raises(UserError, match=r"plans\[0\].drop: 99 is more than"):
        requests({**spec, "drop": [99]})


def test_a_search_is_given_nothing_else():
    (request,) = requests({"strategy": "greedy", "of": "block", "drop": [2]})
    first = next(request.search(LAYERS, NOTHING))
    asked = {module for addition in first.additions for module in addition}
    assert asked == {*present(candidates("block", LAYERS, NOTHING), LAYERS)}
    with pytest.raises(ValueError, match="was to choose 1 blocks"):
        request.check([Module(BLOCK, 4)], LAYERS, 1)


def test_a_window_has_no_layer_that_must_stay():
    (request,) = requests({"strategy": "block_consecutive", "drop": [4]})
    assert [each.layer for each in request.candidates(LAYERS, NOTHING)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match="5 is more than the 4 blocks that strategy block_consecutive chooses from"):
        requests({"strategy": "block_consecutive", "drop": [5]})


def test_a_plan_of_more_than_there_is_says_what_there_is_and_why():
    with pytest.raises(
        UserError,
        match=r"plans\[0\].drop: 6 is more than the model's 5 attention layers that can be dropped: layer 2 has no "
        r"token mixer; layer 1 has no MLP; the attention of layer 4 stays: later layers read its keys and values",
    ):
        requests({"strategy": "attention", "drop": [6]})


def test_kinds_restrict_attention_to_mixers_of_these_kinds():
    specs = [{"strategy": "attention", "drop": [count], "kinds": [FULL]} for count in (1, 2)]
    for request in requests(*specs):
        assert {each.layer for each in request.candidates(LAYERS, NOTHING)} == {1, 5}
        chosen = request.choose(table(), LAYERS, NOTHING, request.count)
        assert {each.layer for each in chosen} <= {1, 5}
        assert request.name == f"attention-{request.count}-{FULL}"
    (joint,) = requests({"strategy": "joint", "drop": [8], "kinds": [FULL]})
    assert len(joint.choose(table(), LAYERS, NOTHING, 8)) == 8
    with pytest.raises(UserError, match=f"3 is more than the 2 attention layers of {FULL} that strategy attention"):
        requests({"strategy": "attention", "drop": [3], "kinds": [FULL]})
    (limited,) = requests({"strategy": "budget", "of": "attention", "limit": {"sub_layers": 11}, "kinds": [LINEAR]})
    assert {each.layer for each in limited.candidates(LAYERS, NOTHING)} == {0, 3, 6}


def test_an_unknown_kind_is_an_error_with_the_models_kinds():
    with pytest.raises(UserError, match=rf"plans.0..kinds: no layer's mixer is mamba; the model has {LINEAR}, {FULL}"):
        requests({"strategy": "attention", "drop": [1], "kinds": ["mamba"]})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"strategy": "mlp", "drop": 1, "kinds": [FULL]}, "`kinds` goes with strategies that drop attention"),
        ({"strategy": "block", "drop": 1, "kinds": [FULL]}, "`kinds` goes with strategies that drop attention"),
        ({"file": "plan.json", "kinds": [FULL]}, "`kinds` goes with strategies that drop attention"),
        ({"strategy": "joint", "drop": 1, "kinds": [FULL, FULL]}, "`kinds` names full_attention twice"),
    ],
)
def test_kinds_that_do_not_fit_the_strategy_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        PlanSpec(**spec)


REFUSED = {
    "drop_attn names layer 2, which has no token mixer": ([2], []),
    "drop_mlp names layer 1, which has no MLP": ([], [1]),
    "drop_attn names layer 4, whose keys and values later layers read": ([4], [4]),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_plan_file_of_what_cannot_be_dropped_is_refused_with_the_reason(reason, tmp_path):
    attn, mlp = REFUSED[reason]
    path = tmp_path / "mine.json"
    path.write_text(f'{{"drop_attn": {attn}, "drop_mlp": {mlp}}}')
    with pytest.raises(UserError, match=f"plan .*mine.json: {reason}; leave it out"):
        read_plan(path, LAYERS, None)


def test_every_plan_of_all_that_can_be_dropped_is_a_file_that_is_taken(tmp_path):
    attn, mlp = [0, 1, 3, 5, 6], [0, 2, 3, 4, 5, 6]
    for number in range(len(attn) + 1):
        path = tmp_path / f"{number}.json"
        path.write_text(f'{{"drop_attn": {attn[:number]}, "drop_mlp": {mlp}}}')
        assert read_plan(path, LAYERS, None).drops == DropLists(tuple(attn[:number]), tuple(mlp))


def test_layers_are_named_by_ranges():
    assert [*Layers(9, DropLists((), tuple(range(3, 9)))).stays] == ["layers 3-8 have no MLP"]
    assert Layers(2).mixers == {}
    assert [*itertools.chain(*LAYERS.mixers.values())] == [0, 3, 6, 1, 4, 5]
