"""Searches on tiny models in this process: what they find, what they share, and what is left after a fault."""

import itertools
import math

import local_run
import planted_model
import pytest
import tiny_run

from drop_ray.errors import UserError
from drop_ray.job.artifacts import DIVERGENCE
from drop_ray.job.opening import open_job
from drop_ray.models.families import DropLists
from drop_ray.stages.forecast import forecast

GREEDY = {"strategy": "greedy", "of": "joint", "drop": [2, 4], "width": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


def config_of(inputs, store, *plans, **fields):
    fields = {"calibration": {"source": str(inputs / "text.txt"), "num_samples": 8, "seq_len": 32}, **fields}
    return tiny_run.config_of(inputs, store, tasks=[], plans=list(plans), **fields)


def plan(inputs, store, *plans, order=lambda shares: shares, **fields):
    """The state of a run after the stage plan."""
    return local_run.run_stages(open_job(config_of(inputs, store, *plans, **fields)), "plan", order)


def chosen(state):
    return {made.name: (made.drop_attn, made.drop_mlp) for made in state.plans}


def test_a_search_finds_what_its_measurements_say(inputs, tmp_path):
    state = plan(inputs, tmp_path / "store", {**GREEDY, "drop": [3], "width": "all"})
    kl = kl_by_drops(state)
    everything = [(kind, layer) for kind in ("attn", "mlp") for layer in range(4)]
    lacking = []
    for _ in range(3):
        left = [one for one in everything if one not in lacking]
        lacking.append(min(left, key=lambda one: (kl[lists([*lacking, one])], -one[1], one[0])))
    assert len(kl) == 1 + 8 + 7 + 6
    assert kl[DropLists()] == 0
    assert chosen(state)["greedy-joint-3"] == tuple(
        tuple(layer for kind, layer in lacking if kind == wanted) for wanted in ("attn", "mlp")
    )
    (made,) = state.plans
    assert (made.strategy, made.metric) == ("greedy-joint", None)
    assert made.calibration_identity == state.calibrated.identity


def lists(modules):
    return DropLists(*(tuple(layer for kind, layer in modules if kind == wanted) for wanted in ("attn", "mlp")))


def kl_by_drops(state):
    found = {}
    for entry in state.ledger.entries:
        if entry.step.name == "diverge":
            table = state.read_table(entry.commit, DIVERGENCE)
            identity = entry.step.identity
            drops = DropLists(tuple(identity["drop_attn"]), tuple(identity["drop_mlp"]))
            found[drops] = math.fsum(table["kl"].to_pylist()) / sum(table["tokens"].to_pylist())
    return found


def test_plans_of_one_search_share_their_rounds(inputs, tmp_path):
    two = plan(inputs, tmp_path / "store", {**GREEDY, "drop": [2]})
    assert len(kl_by_drops(two)) == 1 + 8 + 2
    both = plan(inputs, tmp_path / "store", GREEDY, {**GREEDY, "drop": [4], "objective": "draft"})
    found = chosen(both)
    assert found["greedy-joint-2-width2"] == chosen(two)["greedy-joint-2-width2"]
    for before, after in zip(found["greedy-joint-2-width2"], found["greedy-joint-4-width2"], strict=True):
        assert after[: len(before)] == before
    new = [entry for entry in both.ledger.entries if entry.stage == "plan" and entry.computed]
    # Two more rounds of 2, and what the other objective looks at from its second round on.
    assert 4 <= len(new) <= 4 + 6


def test_neither_the_number_of_workers_nor_their_order_changes_a_byte(inputs, tmp_path):
    line = {**GREEDY, "drop": [3]}
    one = plan(inputs, tmp_path / "one", line)
    three = plan(inputs, tmp_path / "three", line, order=lambda shares: shares[::-1], execution={"num_workers": 3})
    assert chosen(three) == chosen(one)
    assert checksums(three) == checksums(one)


class LostError(Exception):
    """The driver is no more."""


def test_a_run_that_was_ended_in_a_round_goes_on_to_the_same_plan(inputs, tmp_path):
    whole = plan(inputs, tmp_path / "whole", GREEDY)
    for units in (3, 9):
        store = tmp_path / f"ended-{units}"
        with pytest.raises(LostError):
            plan(inputs, store, GREEDY, order=lose_after(units))
        again = plan(inputs, store, GREEDY)
        done = [entry for entry in again.ledger.entries if entry.stage == "plan" and not entry.computed]
        assert len(done) == units
        assert chosen(again) == chosen(whole)
        assert checksums(again) == checksums(whole)


def lose_after(units):
    """Have the driver end once so many models are measured."""
    left = itertools.count(units, -1)

    def order(shares):
        for share in shares:
            for unit in getattr(share, "units", [share]):
                if hasattr(unit, "variant") and next(left) == 0:
                    raise LostError
                yield unit

    return order


def checksums(state):
    return {entry.step.path: entry.commit.checksum for entry in state.ledger.entries if entry.stage == "plan"}


def test_a_model_in_which_cosine_is_wrong(inputs, tmp_path):
    """The MLP of layer 1 changes the state least, and carries the answer: cosine drops it first, kl last."""
    model = {"path": str(planted_model.write_planted(tmp_path / "model")), "dtype": "float32"}
    ranked = {"strategy": "joint", "drop": [1]}
    lines = [ranked, {**ranked, "drop": [7], "metric": "kl"}, {**GREEDY, "drop": [7], "width": 4}]
    scoring = {"micro_batch": 2, "range_size": 2, "metrics": ["cosine", "kl"]}
    state = plan(inputs, tmp_path / "store", *lines, model=model, scoring=scoring)
    found = chosen(state)
    assert found["joint-1"] == ((), (planted_model.PLANTED,))
    assert planted_model.PLANTED not in found["joint-7-kl"][1]
    assert planted_model.PLANTED not in found["greedy-joint-7-width4"][1]
    kl = kl_by_drops(state)
    alone = {drops: value for drops, value in kl.items() if drops.count == 1}  # blocks are among the others
    planted = alone.pop(DropLists((), (planted_model.PLANTED,)))
    assert planted > 0.1 > 1e-3 > max(alone.values())


def works(config):
    return {work.name: work for work in forecast(open_job(config))}


def test_a_dry_run_counts_the_first_round_and_those_to_come_at_most(inputs, tmp_path):
    config = config_of(inputs, tmp_path / "store", GREEDY)
    local_run.run_stages(open_job(config_of(inputs, tmp_path / "store")), "score")
    before = works(config)
    line = before["plan by predictions"]
    assert (line.units, line.todo) == (1 + 8 + 3 * 2, 1 + 8 + 3 * 2)
    assert line.cost.flops > 0
    assert before["plan"].todo == 2
    assert "greedy-joint-2-width2 and greedy-joint-4-width2 depend on" in before["plan"].cost.note
    plan(inputs, tmp_path / "store", {**GREEDY, "drop": [2]})
    half = works(config)
    assert half["plan by predictions"].todo == 2 * 2
    assert half["plan"].todo == 1
    plan(inputs, tmp_path / "store", GREEDY)
    done = works(config)
    assert (done["plan by predictions"].units, done["plan by predictions"].todo) == (15, 0)
    assert done["plan"].todo == 0


REFIT = [{"ridge": 0.1, "held_out": 2}, {"name": "strong", "ridge": 1.0, "held_out": 2}]
SAMPLES = {"num_samples": 20, "seq_len": 32}


def on_refitted(inputs, store, *plans, **fields):
    calibration = {"source": str(inputs / "text.txt"), **SAMPLES}
    return plan(inputs, store, *plans, refit=REFIT, calibration=calibration, **fields)


LOOP = {"strategy": "joint", "drop": [3], "iterative": 1, "on": "refitted"}


def test_each_round_is_chosen_on_the_model_as_refitted_so_far(inputs, tmp_path):
    state = on_refitted(inputs, tmp_path / "store", LOOP, {**LOOP, "on": "strong"})
    found = chosen(state)
    assert set(found) == {"joint-3-iterative1-on-refitted", "joint-3-iterative1-on-strong"}
    refits = [entry for entry in state.ledger.entries if entry.stage == "refit"]
    # Two rounds of each line have something to make up for.
    assert len(refits) == 4
    assert {entry.step.identity["ridge"] for entry in refits} == {0.1, 1.0}
    scored = [entry for entry in state.ledger.entries if entry.step.name == "score"]
    assert len(scored) == 1 + 4
    assert sum("changes" in entry.step.identity for entry in scored) == 4


def test_the_plans_own_refit_is_that_of_the_loop_and_a_dry_run_counts_both(inputs, tmp_path):
    calibration = {"source": str(inputs / "text.txt"), **SAMPLES}
    config = config_of(inputs, tmp_path / "store", {**LOOP, "drop": [2, 3]}, refit=REFIT[:1], calibration=calibration)
    local_run.run_stages(open_job(config_of(inputs, tmp_path / "store", calibration=calibration)), "score")
    before = works(config)
    # One exactly, one as if it were known, and those of the two plans that are undecided.
    assert before["refit"].todo == 1 + 1 + 2
    ranges = [before[f"score without {count} sub-layers, refitted"].todo for count in (1, 2)]
    assert ranges == [10, 10]
    on_refitted(inputs, tmp_path / "store", {**LOOP, "drop": [3]})
    done = works(config)
    assert (done["plan"].todo, done["refit"].todo) == (0, 1)
    state = local_run.run_stages(open_job(config), "refit")
    computed = [entry.label for entry in state.ledger.entries if entry.stage == "refit" and entry.computed]
    assert computed == ["joint-3-iterative1-on-refitted-refit"]


def test_a_ranking_by_kl_is_of_the_refitted_model_too(inputs, tmp_path):
    scoring = {"micro_batch": 2, "range_size": 10, "metrics": ["cosine", "kl"]}
    state = on_refitted(inputs, tmp_path / "store", {**LOOP, "drop": [2], "metric": "kl"}, scoring=scoring)
    (made,) = state.plans
    assert (made.name, made.metric) == ("joint-2-iterative1-on-refitted-kl", "kl")
    (tables,) = state.edited_scores.values()
    measured = {
        entry.step.path: math.fsum(table["kl"].to_pylist()) / sum(table["tokens"].to_pylist())
        for entry in state.ledger.entries
        if entry.step.name == "diverge" and "changes" in entry.step.identity
        for table in [state.read_table(entry.commit, DIVERGENCE)]
    }
    scored = {importance.mean for importance in tables["kl"].importance.values()}
    # Seven sub-layers are left, and four blocks, one of which is one of these seven.
    assert len(measured) == 7 + 3
    assert sorted(scored) == pytest.approx(sorted(measured.values()))


def test_a_search_may_measure_refitted_models(inputs, tmp_path):
    line = {**GREEDY, "drop": [2, 3], "on": "refitted"}
    state = on_refitted(inputs, tmp_path / "store", line)
    three = on_refitted(inputs, tmp_path / "three", line, execution={"num_workers": 3})
    assert checksums(three) == checksums(state)
    kinds = [
        ("changes" in entry.step.identity, len(entry.step.identity["drop_attn"] + entry.step.identity["drop_mlp"]))
        for entry in state.ledger.entries
        if entry.step.name == "diverge"
    ]
    assert kinds.count((False, 0)) == 1
    assert kinds.count((False, 1)) == 8
    # The refitted model of each round, and it without two candidates.
    assert [kinds.count((True, count)) for count in (1, 2, 3)] == [1, 2 + 1, 2]
    for entry in state.ledger.entries:
        if "changes" in entry.step.identity and entry.step.name == "diverge":
            (change,) = entry.step.identity["changes"]
            own = entry.step.identity["drop_attn"] + entry.step.identity["drop_mlp"]
            before = change["of"]["drop_attn"] + change["of"]["drop_mlp"] if "of" in change else own
            assert len(own) - len(before) in (0, 1)


def test_a_line_of_refit_that_is_not_there_is_named(inputs, tmp_path):
    with pytest.raises(UserError, match=r"plans\[0\].on: refitted takes a line of `refit`, and there is none; add one"):
        config_of(inputs, tmp_path, LOOP)
    with pytest.raises(UserError, match=r"plans\[0\].on: no line of `refit` is called weak; lines: refit, strong"):
        config_of(inputs, tmp_path, {**LOOP, "on": "weak"}, refit=REFIT)
