"""The stage `diverge` on a tiny Llama: units, shares, resuming, and bytes that depend on the panel alone."""

import json

import pytest
import torch
from in_process import InProcess, Scale
from local_run import run_state, variant
from tiny_run import config_of

from drop_ray.errors import NotFiniteError, UserError
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.job.artifacts import DIVERGENCE, PANEL
from drop_ray.job.ledger import read_manifest
from drop_ray.job.opening import open_job
from drop_ray.job.texts import Texts
from drop_ray.pipeline import run
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import variant_of
from drop_ray.stages.diverge import diverge
from drop_ray.stages.diverge_units import DivergenceShare
from drop_ray.stages.forecast import forecast_lines
from drop_ray.store import open_store
from drop_ray.store.tables import read_table

TEXT = {"num_samples": 5, "seq_len": 24}
PLANS = [{"strategy": "attention", "drop": [1, 2]}, {"strategy": "mlp", "drop": [1]}]


@pytest.fixture
def job_of(inputs, tmp_path):
    return lambda store="store", **fields: open_job(
        config_of(inputs, tmp_path / store, **{"divergence": TEXT, "scoring": {"micro_batch": 2}, **fields})
    )


def state_of(job, variants, **cluster):
    state = run_state(job, variants)
    state.texts, state.cluster = Texts(job), InProcess(**cluster)
    return state


def variants_of(job):
    names = [
        variant(job, "a", (1,)),
        variant(job, "b", (1, 2)),
        variant(job, "m", (), (0,)),
        variant(job, "again", (1,)),
    ]
    edited = variant(job, "a", (1,)).then(Scale("model.layers.2.mlp.down_proj.weight", 2))
    return [*names, edited]


def checksums(job):
    units = read_manifest(job.store, job.run_folder)
    return {step.path: job.store.find(step).checksum for stage, _, step in units if stage == "diverge"}


def test_panels_are_taken_up_by_name_and_equal_variants_are_compared_once(job_of):
    job = job_of()
    state = state_of(job, variants_of(job))
    diverge(state, state.variants)
    assert [*state.panels] == ["a", "b", "m", "again", "a-scaled"]
    assert state.panels["a"] == state.panels["again"]
    assert [unit.label for share in state.cluster.shares for unit in share.units] == ["a", "b", "m", "a-scaled"]
    assert [share.name for share in state.cluster.shares] == ["a to m", "a-scaled"]
    assert all(isinstance(panel, Panel) and panel.tokens == 5 * 23 for panel in state.panels.values())
    done = {entry.label: entry.commit for entry in state.ledger.entries}
    rows = read_table(job.store, done["b"], DIVERGENCE).to_pylist()
    assert [row["sample"] for row in rows] == [0, 1, 2, 3, 4]
    assert sum(row["kl"] for row in rows) / sum(row["tokens"] for row in rows) == pytest.approx(state.panels["b"].kl)
    assert json.loads(job.store.read_bytes(done["b"], PANEL))["kl"] == state.panels["b"].kl
    again = state_of(job, variants_of(job))
    diverge(again, again.variants)
    assert (again.panels, again.cluster.shares) == (state.panels, [])


@pytest.mark.parametrize(
    ("num_workers", "cluster"),
    [(2, {}), (3, {"memory": 1, "wave_bytes": 1}), (1, {"memory": 1, "wave_bytes": 1 << 14})],
)
def test_bytes_depend_neither_on_workers_nor_on_where_layers_are(job_of, num_workers, cluster):
    one, other = job_of("one"), job_of("other", execution={"num_workers": num_workers})
    for job, how in ((one, {}), (other, cluster)):
        state = state_of(job, variants_of(job), **how)
        diverge(state, state.variants)
        state.record()
    assert len(state.cluster.shares) == num_workers + 1
    assert all(share.streamed == bool(cluster) for share in state.cluster.shares)
    assert checksums(one) == checksums(other)


def test_layers_are_streamed_where_base_and_variant_do_not_fit_together(job_of):
    job = job_of()
    needed = job.size.parameters * job.size.bytes_per_parameter
    state = state_of(job, variants_of(job), memory=needed / 0.6 * 1.5)
    diverge(state, state.variants)
    assert [share.streamed for share in state.cluster.shares] == [False, True]


def test_a_share_that_is_given_out_again_does_what_is_missing(job_of, monkeypatch):
    job = job_of()
    state = state_of(job, variants_of(job)[:3])
    diverge(state, state.variants[:1])
    first = state.panels["a"]
    swept = []
    sweep = DivergenceShare.sweep
    monkeypatch.setattr(
        DivergenceShare, "sweep", lambda self, worker: swept.append(len(self.units)) or sweep(self, worker)
    )
    monkeypatch.setattr(state.ledger, "is_done", lambda step: step.name != "diverge")
    diverge(state, state.variants)
    assert swept == [2]
    assert state.panels["a"] == first


def test_a_variant_without_numbers_is_named_and_the_others_are_kept(job_of):
    job = job_of()
    broken = variant(job, "a", (1,)).then(Scale("lm_head.weight", float("inf")))
    state = state_of(job, [*variants_of(job)[:3], broken])
    with pytest.raises(NotFiniteError, match="^the predictions of a-scaled at sample 0: lm_head.weight holds NaN or"):
        diverge(state, state.variants)
    assert [entry.label for entry in state.ledger.entries if entry.commit][1:] == ["a", "b", "m"]


def test_a_plan_that_drops_nothing_is_the_base(job_of):
    job = job_of()
    state = state_of(job, [variant_of(job.checkpoint.identity, DropPlan("none"))])
    diverge(state, state.variants)
    panel = state.panels["none"]
    assert panel.kl < 1e-10
    assert (panel.kl_max, panel.top1_agreement, panel.acceptance, panel.log_perplexity_ratio) == (0, 1, 1, 0)


def test_a_base_that_lacks_layers_itself_is_what_its_plans_are_compared_with(job_of, tmp_path, inputs):
    from drop_ray.models.checkpoint import open_checkpoint
    from drop_ray.models.export import export_checkpoint
    from drop_ray.models.families import DropLists

    export_checkpoint(
        open_checkpoint(inputs / "model"), DropLists((1,)), tmp_path / "dropped", format="dropped", provenance={}
    )
    job = job_of(model={"path": str(tmp_path / "dropped"), "dtype": "float32"})
    state = state_of(job, [variant(job, "same", (1,)), variant(job, "b", (1, 2))])
    diverge(state, state.variants)
    assert state.panels["same"].kl == 0
    whole = job_of("whole")
    both = state_of(whole, [variant(whole, "b", (1, 2))])
    diverge(both, both.variants)
    assert 0 < state.panels["b"].kl != both.panels["b"].kl
    assert torch.tensor(state.panels["b"].kl).isfinite()


def test_the_command_stops_behind_it_and_the_dry_run_counts_it(make_config, job_of):
    """On three workers of a cluster, with streamed layers, the bytes are those of one share in this process."""
    execution = {"num_workers": 3, "cpus_per_worker": 0.5, "layers": "streamed"}
    config = make_config(divergence=TEXT, plans=PLANS, scoring={"micro_batch": 2}, execution=execution)
    line = next(line for line in forecast_lines(config) if line.startswith("diverge"))
    assert line.split()[1:3] == ["3", "3"]
    assert "FLOP" in line
    outcome = run(config, "diverge")
    assert [*outcome.panels] == [plan.name for plan in outcome.plans] == ["attention-1", "attention-2", "mlp-1"]
    stages = {stage for stage, _, _ in read_manifest(open_store(config.store), "runs/run")}
    assert "diverge" in stages
    assert "evaluate" not in stages
    assert next(line.split()[1:3] for line in forecast_lines(config) if line.startswith("diverge")) == ["3", "0"]
    here = job_of("here")
    state = state_of(here, [variant_of(here.checkpoint.identity, plan) for plan in outcome.plans])
    diverge(state, state.variants)
    state.record()
    assert checksums(here) == checksums(open_job(config))


def test_a_config_that_compares_nothing_cannot_end_with_it(make_config):
    with pytest.raises(UserError, match=r"evaluation\.divergence: is null"):
        run(make_config(), "diverge")
