"""Variants measured on the calibration samples: numbers of whole models, shares, resuming, one artifact for all."""

import pytest
import torch
from in_process import InProcess, Scale
from local_run import run_state, variant
from tiny_run import config_of

from drop_ray.job.opening import open_job
from drop_ray.job.run_state import NotDoneError
from drop_ray.job.texts import load_calibration
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.diverge_units import DivergenceShare
from drop_ray.stages.forecast import DryRun
from drop_ray.stages.measured import measure
from drop_ray.stages.score import STAGE

SHAPE = {"num_samples": 5, "seq_len": 24}


@pytest.fixture
def job_of(inputs, tmp_path):
    def made(store="store", **fields):
        calibration = {"source": str(inputs / "text.txt"), **SHAPE}
        values = {"calibration": calibration, "scoring": {"micro_batch": 2}, **fields}
        return open_job(config_of(inputs, tmp_path / store, **values))

    return made


def state_of(job, **cluster):
    state = run_state(job)
    state.cluster = InProcess(**cluster)
    state.calibration = calibrate(state)
    return state


def candidates(job, base=DropLists()):
    layers = range(job.size.num_layers)
    attention = [variant(job, f"a{n}", {*base.attn, n}, base.mlp) for n in layers if n not in base.attn]
    return attention + [variant(job, f"m{n}", base.attn, {*base.mlp, n}) for n in layers if n not in base.mlp]


@pytest.mark.parametrize("base", [DropLists(), DropLists((1,), (2,))])
def test_every_candidate_has_the_numbers_of_two_whole_models_in_float64(job_of, inputs, base):
    job = job_of()
    found = measure(state := state_of(job), STAGE, candidates(job, base))
    assert [*found] == candidates(job, base)
    assert len(state.cluster.shares) == 1
    ids = torch.from_numpy(load_calibration(job)).long()
    with torch.no_grad():
        whole = load_model(inputs / "model", dtype=torch.float64)(ids).logits[:, :-1].log_softmax(-1)
        for candidate, losses in found.items():
            model = load_model(inputs / "model", candidate.drops, dtype=torch.float64)
            other = model(ids).logits[:, :-1].log_softmax(-1)
            kl = (whole.exp() * (whole - other)).sum((1, 2))
            increase = (whole - other).gather(-1, ids[:, 1:, None]).sum((1, 2))
            assert [*losses] == list(range(5))
            assert [loss.kl for loss in losses.values()] == pytest.approx(kl.tolist(), rel=1e-5, abs=1e-6)
            assert [loss.increase for loss in losses.values()] == pytest.approx(increase.tolist(), abs=2e-5)
            assert {loss.tokens for loss in losses.values()} == {23}


@pytest.mark.parametrize("how", [{}, {"memory": 1, "wave_bytes": 1}])
def test_bytes_depend_neither_on_workers_nor_on_shares_nor_on_where_layers_are(job_of, how):
    """One worker with one share; three, and no more memory than for the states of two variants and the base."""
    one, other = job_of("one"), job_of("other", execution={"num_workers": 3, "wave_bytes": 2 * 24 * 32 * 4 * 3})
    losses, checksums = [], []
    for job, cluster in ((one, {}), (other, how)):
        state = state_of(job, **cluster)
        losses.append(measure(state, STAGE, candidates(job)))
        done = {entry.label: entry.commit.checksum for entry in state.ledger.entries}
        checksums.append({name: done[name] for name in ("a0", "m3")})
    assert job.size.hidden_size == 32
    assert len(state.cluster.shares) > 3
    assert max(len(share.units) for share in state.cluster.shares) <= 2
    assert checksums[0] == checksums[1]
    assert losses[0] == losses[1]


def test_what_is_done_is_taken_up_and_shared_by_all_stages(job_of):
    from dataclasses import replace

    job = job_of()
    first = measure(state_of(job), STAGE, candidates(job)[:3])
    again = state_of(job)
    found = measure(again, replace(STAGE, name="search"), candidates(job))
    assert sorted(unit.label for share in again.cluster.shares for unit in share.units) == [
        "a3",
        "m0",
        "m1",
        "m2",
        "m3",
    ]
    assert {one: found[one] for one in first} == first


def test_a_panel_on_the_same_tokens_is_the_same_artifact(job_of, inputs):
    from drop_ray.job.texts import Texts
    from drop_ray.stages.diverge import diverge

    job = job_of(divergence={"source": str(inputs / "text.txt"), **SHAPE})
    state = state_of(job)
    measure(state, STAGE, candidates(job)[:2])
    state.cluster.shares, state.texts = [], Texts(job)
    diverge(state, candidates(job)[:2])
    assert state.cluster.shares == []
    assert state.panels.keys() == {"a0", "a1"}


def test_an_edited_variant_has_a_share_of_its_own(job_of, inputs):
    job = job_of()
    edited = variant(job, "a", (1,)).then(Scale("model.layers.2.mlp.down_proj.weight", 2))
    state = state_of(job)
    found = measure(state, STAGE, [*candidates(job)[:2], edited])
    assert [len(share.units) for share in state.cluster.shares] == [2, 1]
    assert sum(loss.kl for loss in found[edited].values()) != sum(
        loss.kl for loss in found[candidates(job)[1]].values()
    )


def test_equal_variants_are_one_unit_and_different_ones_of_one_name_are_refused(job_of):
    job = job_of()
    state = state_of(job)
    found = measure(state, STAGE, [variant(job, "a", (1,)), variant(job, "again", (1,))])
    assert len(found) == 1
    with pytest.raises(ValueError, match="different variants have one name"):
        measure(state, STAGE, [variant(job, "a", (1,)), variant(job, "a", (2,))])


def test_a_dry_run_counts_units_and_what_they_compute(job_of):
    job = job_of()
    run = DryRun(job)
    run.calibration = calibrate(run)
    with pytest.raises(NotDoneError):
        measure(run, STAGE, candidates(job))
    work = run.works["score by predictions"]
    assert (work.units, work.todo, work.cost.at_once) == (8, 8, 1)
    tokens = SHAPE["num_samples"] * SHAPE["seq_len"]
    layers = job.size.forward_flops(DropLists(), tokens, SHAPE["seq_len"])
    heads = 9 * 2 * job.size.hidden_size * job.vocab_size * tokens
    # The base, 3 + 2 + 1 layers behind each attention and MLP of layers 0 to 2, and the MLP beside each attention.
    mlps = 2 * sum(job.size.active_mlp_parameters) * tokens
    assert work.cost.flops == pytest.approx(layers * (1 + 2 * 6 / 4) + mlps + heads, rel=1e-9)


def test_a_share_that_is_given_out_again_does_what_is_missing(job_of, monkeypatch):
    job = job_of()
    state = state_of(job)
    first = measure(state, STAGE, candidates(job)[:2])
    swept = []
    sweep = DivergenceShare.sweep
    monkeypatch.setattr(
        DivergenceShare, "sweep", lambda self, worker: swept.append(len(self.units)) or sweep(self, worker)
    )
    monkeypatch.setattr(state.ledger, "is_done", lambda step: False)
    found = measure(state, STAGE, candidates(job))
    assert swept == [6]
    assert {one: found[one] for one in first} == first
