"""Scores by metrics of the output: rows, plans that follow them, what is computed when, and bad input."""

import json
from types import SimpleNamespace

import pytest
import tiny_models
from local_run import run_stages
from safetensors.torch import load_file, save_file
from tiny_run import config_of

from drop_ray.errors import UserError
from drop_ray.job.artifacts import SCORES
from drop_ray.job.metric_checks import check_metrics
from drop_ray.job.opening import open_job
from drop_ray.job.run_state import NotDoneError
from drop_ray.models.families import DropLists
from drop_ray.stages.forecast import DryRun
from drop_ray.stages.score import STAGE
from drop_ray.stages.score_outputs import left_out
from drop_ray.store.tables import read_table

SHAPE = {"num_samples": 5, "seq_len": 24}
METRICS = ["cosine", "kl", "loss"]
REVISIONS = SimpleNamespace(revisions=("step1", "step2"))


@pytest.fixture
def job_of(inputs, tmp_path):
    def made(store="store", metrics=METRICS, plans=(), **fields):
        return open_job(
            config_of(
                inputs,
                tmp_path / store,
                tasks=(),
                calibration={"source": str(inputs / "text.txt"), **SHAPE},
                scoring={"micro_batch": 2, "range_size": 2, "metrics": list(metrics)},
                plans=list(plans),
                **fields,
            )
        )

    return made


def done(state, name):
    """Labels of the units of a stage that this start computed."""
    return [entry.label for entry in state.ledger.entries if entry.computed and entry.step.name == name]


def tables_of(state):
    return {
        entry.label: read_table(state.job.store, entry.commit, SCORES)
        for entry in state.ledger.entries
        if entry.step.name == "score"
    }


def test_every_module_has_a_row_of_each_metric_and_sample(job_of):
    state = run_stages(job_of(), "score")
    (table,) = tables_of(state).values()
    rows = table.to_pylist()
    keys = {(row["metric"], row["module"], row["layer"], row["sample"]) for row in rows}
    modules = ("attention", "mlp", "block")
    assert len(rows) == len(keys) == 3 * 3 * 4 * 5
    assert keys == {(metric, mod, i, s) for metric in METRICS for mod in modules for i in range(4) for s in range(5)}
    assert {row["tokens"] for row in rows if row["metric"] == "cosine"} == {24}
    assert {row["tokens"] for row in rows if row["metric"] != "cosine"} == {23}
    # The same sweep as without them, and its very units; 4 modules of 3 kinds were left out.
    assert len(done(state, "diverge")) == 12
    alone = run_stages(job_of(metrics=["cosine"]), "score")
    assert done(alone, "score-range") == []
    assert alone.scores[DropLists()]["cosine"] == state.scores[DropLists()]["cosine"]


def test_plans_follow_kl_one_shot_iterative_and_in_windows(job_of):
    plans = [
        {"strategy": "joint", "drop": [2], "metric": "kl"},
        {"strategy": "attention", "drop": [2], "iterative": 1, "metric": "kl"},
        {"strategy": "block_consecutive", "drop": [2], "metric": "loss"},
        {"strategy": "mlp", "drop": [2], "iterative": 1},
    ]
    state = run_stages(job_of(plans=plans), "plan")
    base = state.scores[DropLists()]
    joint, attention, window, mlp = state.plans
    ranked = sorted((base["kl"].mean(kind, n), kind, n) for kind in ("attention", "mlp") for n in range(4))[:2]
    assert sorted((kind, n) for _, kind, n in ranked) == sorted(
        [("attention", n) for n in joint.drop_attn] + [("mlp", n) for n in joint.drop_mlp]
    )
    first = DropLists(attention.drop_attn[:1])
    assert set(base) == set(state.scores[first]) == set(METRICS)
    means = state.scores[first]["kl"].means("attention")
    assert attention.drop_attn[1] == min(means, key=means.get)
    # An iterative plan by cosine has nobody left out on its way, and windows are measured for those who ask.
    assert set(state.scores[DropLists((), mlp.drop_mlp[:1])]) == {"cosine"}
    windows = {n: base["loss"].mean("block", n, 2) for n in base["loss"].windows(2)}
    assert window.drop_attn[0] == min(windows, key=windows.get)
    assert [*windows] == [0, 1, 2]


def test_windows_are_left_out_only_for_plans_by_such_a_metric(job_of):
    state = run_stages(job_of(plans=[{"strategy": "block_consecutive", "drop": [2]}]), "plan")
    assert state.scores[DropLists()]["cosine"].windows(2) == [0, 1, 2]
    assert state.scores[DropLists()]["kl"].windows(2) == []


def test_what_is_left_out_has_a_defined_order_and_lacks_what_the_model_lacks(job_of):
    job = job_of()
    entries = left_out(job, DropLists((1, 2), (2,)), [3, 1])
    assert [(entry.module, entry.layer, entry.gap) for entry in entries] == [
        *[("attention", n, 1) for n in (0, 3)],
        *[("mlp", n, 1) for n in (0, 1, 3)],
        *[("block", n, 1) for n in (0, 1, 3)],
        *[("block", n, 3) for n in (0, 1)],
    ]
    assert entries[0].variant.drops == DropLists((0, 1, 2), (2,))
    assert entries[3].variant == entries[6].variant  # of block 1 the MLP alone is left
    assert entries[-1].variant.drops == DropLists((1, 2, 3), (1, 2, 3))
    assert len({entry.variant.name for entry in entries}) == len(entries)


def test_bytes_depend_neither_on_workers_nor_on_the_order_of_shares(job_of):
    found = []
    for store, order in (("one", list), ("three", lambda shares: shares[::-1])):
        workers = {"num_workers": 1 if store == "one" else 3}
        state = run_stages(job_of(store, execution=workers), "score", order=order)
        found.append({label: table.to_pydict() for label, table in tables_of(state).items()})
    assert found[0] == found[1]


def test_a_run_goes_on_where_it_was(job_of):
    job = job_of()
    with pytest.raises(RuntimeError, match="lost"):
        run_stages(job, "score", order=_one_then_lost)
    again = run_stages(job, "score")
    assert len(done(again, "diverge")) == 12
    third = run_stages(job, "score")
    assert not any(entry.computed for entry in third.ledger.entries)
    assert third.scores == again.scores


def _one_then_lost(shares):
    yield shares[0]
    raise RuntimeError("lost")


def test_metrics_of_the_output_alone_need_no_sweep(job_of):
    state = run_stages(job_of(metrics=["kl"], plans=[{"strategy": "attention", "drop": [1]}]), "plan")
    assert done(state, "score-range") == []
    assert [plan.metric for plan in state.plans] == ["kl"]


def test_a_dry_run_counts_them_beside_the_sweep(job_of):
    run = DryRun(job_of())
    with pytest.raises(NotDoneError):
        STAGE.run(run)
    assert (run.works["score by predictions"].todo, run.works["score base"].todo) == (12, 3)


def test_a_metric_of_the_output_needs_an_output_layer(inputs, tmp_path, job_of):
    model = tiny_models.write_checkpoint(tmp_path / "headless")
    index = json.loads((model / "model.safetensors.index.json").read_text())
    shard = model / index["weight_map"].pop("lm_head.weight")
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({name: tensor for name, tensor in load_file(shard).items() if name != "lm_head.weight"}, shard)
    with pytest.raises(UserError, match=r"scoring.metrics: kl compares predictions, and .* has no output layer \(lm_h"):
        job_of(model={"path": str(model), "dtype": "float32"})


@pytest.mark.parametrize(
    ("metrics", "plan", "said"),
    [
        (["cosine", "gate_norm"], {"strategy": "joint", "metric": "gate_norm"}, "joint-1-gate_norm ranks attention la"),
        (["gate_norm"], {"strategy": "block"}, "block-1 ranks blocks by gate_norm, which scores attention only"),
        (["attention_entropy"], {"strategy": "attention"}, "scoring.metrics: attention_entropy reads the attention's"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_any_work(job_of, metrics, plan, said):
    with pytest.raises(UserError, match=said):
        job_of(metrics=metrics, plans=[{**plan, "drop": [1]}])


def test_training_checkpoints_need_a_metric_of_one_pass():
    def check(*metrics):
        check_metrics(SimpleNamespace(scoring=SimpleNamespace(metrics=metrics), model=REVISIONS), None)

    with pytest.raises(UserError, match="scoring.metrics: training checkpoints .* add one, such as cosine"):
        check("kl", "loss")
    check("kl", "cosine")
