"""The stage gates: a unit for each variant, and the verdicts and cliffs that follow from their answers."""

import shutil
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from here_cluster import run_here
from local_run import variant
from tiny_run import config_of, config_values

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.job.artifacts import GATE_ITEMS, GATES
from drop_ray.job.opening import open_job
from drop_ray.job.run_state import Calibration
from drop_ray.job.steps import gates_step
from drop_ray.models.families import DropLists
from drop_ray.planning.changes import TensorEdit
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.planning.scores import Importance, ScoreTable
from drop_ray.planning.variants import variant_of
from drop_ray.report.gate_rows import GateRow
from drop_ray.stages import gates
from drop_ray.stages.cliffs import find_cliffs
from drop_ray.stages.forecast import forecast
from drop_ray.stages.report_gates import cliff_rows, gate_rows, verdict_rows

SMALL = {"num_items": 8, "needle_lengths": [200, 400], "generated_tokens": 16}


def job_of(inputs, store, **fields):
    evaluation = {"divergence": None, "gates": {**SMALL, **fields}}
    return open_job(config_of(inputs, store, evaluation=evaluation))


@pytest.fixture(scope="module")
def job(inputs, tmp_path_factory):
    return job_of(inputs, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def done(job):
    """A run with two equal variants and one that is other, after the stage."""
    run = run_here(job, [variant(job, "a", (1,)), variant(job, "same", (1,)), variant(job, "b", (1, 2))])
    gates.STAGE.run(run)
    return run


def test_base_and_variants_are_asked_and_equal_ones_once(done):
    assert done.cluster.sent == ["base", "a", "b"]
    assert [*done.verdicts] == ["a", "same", "b"]
    assert done.verdicts["a"] == done.verdicts["same"]


def test_what_is_done_is_not_asked_again(job, done):
    again = run_here(job, done.variants)
    gates.STAGE.run(again)
    assert again.cluster.sent == []
    assert again.verdicts == done.verdicts


def test_bytes_do_not_depend_on_order_and_batches_of_units(inputs, job, done, tmp_path):
    other = job_of(inputs, tmp_path)
    run = run_here(other, done.variants, order=lambda shares: shares[::-1])
    gates.STAGE.run(run)
    assert run.cluster.sent == ["b", "a", "base"]
    for one in [done.base, *done.variants]:
        commits = [state.ledger.commit_of(gates_step(job, one)) for state in (done, run)]
        first, second = ({name: output.sha256 for name, output in commit.outputs.items()} for commit in commits)
        assert first == second
        assert {*first} == {GATES, GATE_ITEMS}


def test_what_it_took_is_said_of_each_unit(job, done):
    measured = done.ledger.commit_of(gates_step(job, done.base)).provenance["measured"]
    assert measured["asked_tokens"] > measured["computed_tokens"] > 0


def test_only_what_decides_an_answer_is_in_the_identity(inputs, tmp_path, job):
    def path(**fields):
        return gates_step(job_of(inputs, tmp_path, **fields), job.base_variant).path

    same = path()
    assert path(tolerance=0.2) == path(confidence=0.9) == path(cliffs=["mlp"]) == same
    changed = [path(seed=1), path(num_items=9), path(needle_lengths=[200]), path(generated_tokens=17)]
    assert len({same, *changed}) == 5


def test_a_random_base_judges_nobody_and_a_needle_beyond_its_positions_is_skipped(done):
    verdict = done.verdicts["b"]
    assert verdict.outcome == "cannot tell"
    skipped = {one.gate: one.reason for one in verdict.gates if one.outcome == "skipped"}
    assert skipped["needle-400"] == (
        "needle at 400 tokens: skipped, it is longer than the 256 tokens that the model is evaluated with"
    )
    assert {one.gate: one.outcome for one in verdict.gates}["copying"] == "not informative"


def test_rows_of_the_report_have_every_gate_of_every_variant(done):
    rows = [*gate_rows(done)]
    assert {row.variant for row in rows} == {row.variant for row in verdict_rows(done)} == {"a", "same", "b"}
    assert [row.gate for row in rows if row.variant == "a"] == [one.gate for one in done.verdicts["a"].gates]
    copying = next(row for row in rows if row.gate == "copying")
    assert copying == GateRow(
        *("a", "copying", "copying", "not informative", copying.reason),
        items=8,
        chance=0.0,
        base=copying.base,
        share=copying.share,
        loss=None,
        low=None,
        high=None,
    )


@dataclass(frozen=True, eq=False)
class Overflow(TensorEdit):
    """Makes the last norm so large that logits are not finite."""

    kind = "overflow"

    @property
    def label(self):
        return "overflow"

    def identity(self):
        return {}

    def edits(self, name):
        return name == "model.norm.weight"

    def edit(self, name, tensor):
        return torch.full_like(tensor, 3e38)


def test_a_plan_whose_logits_are_not_finite_is_a_regression_and_no_crash(job):
    broken = variant_of(job.checkpoint.identity, DropPlan("broken", changes=(Overflow(),)))
    run = run_here(job, [broken])
    gates.STAGE.run(run)
    verdict = run.verdicts["broken"]
    assert verdict.outcome == "regression"
    assert "log-likelihoods are not finite" in verdict.reason


def test_a_run_of_token_ids_on_a_model_without_a_tokenizer_asks_what_needs_none(inputs, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(inputs / "model", model)
    for path in model.glob("tokenizer*"):
        path.unlink()
    pq.write_table(pa.table({"input_ids": [[3 + number % 90 for number in range(32)]] * 20}), tmp_path / "ids.parquet")
    values = config_values(inputs, tmp_path / "store", evaluation={"divergence": None, "gates": SMALL})
    values["model"]["path"] = str(model)
    values["calibration"] = {"token_ids": str(tmp_path / "ids.parquet"), "num_samples": 20, "seq_len": 32}
    job = open_job(parse_config(values, "test"))
    run = run_here(job, [variant(job, "a", (1,))])
    gates.STAGE.run(run)
    found = {one.gate: one for one in run.verdicts["a"].gates}
    assert {gate for gate, one in found.items() if one.outcome != "skipped"} == {"copying", "repetition", "early-stop"}
    assert "has no tokenizer that transformers can load" in found["arithmetic"].reason


def test_without_the_section_nothing_is_asked_and_the_command_says_what_to_write(inputs, tmp_path):
    config = config_of(inputs, tmp_path)
    run = run_here(open_job(config))
    gates.STAGE.run(run)
    assert (run.cluster.sent, run.verdicts, run.cliffs) == ([], {}, [])
    with pytest.raises(UserError, match=r"evaluation\.gates: the config has no such section; `gates: \{\}`"):
        gates.STAGE.check_last(config)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cliffs": ["block_consecutive"]}, "no cliff of `block_consecutive` can be sought"),
        ({"cliffs": ["random"]}, "such strategies are attention, mlp, joint, block"),
        ({"cliffs": ["nope"]}, "Input should be 'attention'"),
        ({"cliffs": ["mlp", "mlp"]}, "`mlp` is named twice"),
        ({"needle_lengths": [200, 200]}, "name each length once"),
        ({"needle_lengths": [8]}, "greater than or equal to 64"),
        ({"num_items": 4}, "greater than or equal to 8"),
        ({"tolerance": 0}, "greater than 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_its_field(inputs, fields, said):
    with pytest.raises(UserError, match=said) as refused:
        config_of(inputs, "store", evaluation={"gates": fields})
    assert f"evaluation.gates.{next(iter(fields))}" in str(refused.value)


SCORED = {kind: [0.5, 0.1, 0.4, 0.2] for kind in ("attention", "mlp", "block")}
DEEP = ScoreTable(
    {(kind, layer, 1): Importance(mean, 0.0) for kind, means in SCORED.items() for layer, mean in enumerate(means)}
)


def scored_run(job, variants=()):
    """A run that has its scores, without any scoring."""
    run = run_here(job, variants)
    run.scores[job.base_drops] = {"cosine": DEEP}
    run.calibration = Calibration(None, "c" * 64, 20)
    return run


def up_to(cliffs, asked):
    """Verdicts by the number of sub-layers that a variant lacks, and a list of what was asked together."""

    def judge(variants):
        asked.append([one.name for one in variants])
        return [
            Verdict("accept" if one.drops.count <= cliffs[one.plan.strategy] else "regression", f"of {one.name}", ())
            for one in variants
        ]

    return judge


def test_cliffs_are_found_side_by_side_and_their_plans_are_written(job):
    known = variant(job, "known", (1, 3))
    run, asked = scored_run(job, [known]), []
    cliffs = {"attention": 2, "mlp": 0, "joint": 8, "block": 4}
    find_cliffs(run, [*cliffs], up_to(cliffs, asked))
    assert asked == [
        ["attention-2", "mlp-2", "joint-4", "block-2"],
        ["attention-3", "mlp-1", "joint-6", "block-3"],
        ["joint-7"],
        ["joint-8"],
    ]
    found = {cliff.strategy: cliff for cliff in run.cliffs}
    assert {name: (one.largest, one.fails, one.num_counts) for name, one in found.items()} == {
        "attention": (2, 3, 4),
        "mlp": (0, 1, 4),
        "joint": (8, None, 8),
        "block": (2, 3, 4),
    }
    assert found["attention"].reason == "of attention-3"
    assert (found["attention"].asked, found["attention"].known) == ((2, 3), (2,))
    written = job.store.read_file(f"{job.run_folder}/cliffs/attention-2.json")
    rows = {row.strategy: row for row in cliff_rows(run)}
    assert rows["attention"].plan == "cliffs/attention-2.json"
    assert rows["mlp"].plan is None
    assert (rows["block"].drop_attn, rows["block"].drop_mlp) == ((1, 3), (1, 3))
    assert b'"drop_attn": [\n    1,\n    3\n  ]' in written


def test_the_plan_at_a_cliff_can_be_used_as_a_file(job, tmp_path):
    run = scored_run(job)
    find_cliffs(run, ["joint"], up_to({"joint": 3}, []))
    path = tmp_path / "plan.json"
    path.write_bytes(job.store.read_file(f"{job.run_folder}/cliffs/joint-3.json"))
    plan = read_plan(path, job.size.layers, job.checkpoint.identity)
    assert plan.drops == DropLists(attn=(1, 3), mlp=(1,))


def test_a_dry_run_counts_the_gates_of_all_variants_and_the_most_that_cliffs_can_ask(inputs, tmp_path):
    job = job_of(inputs, tmp_path, cliffs=["attention", "joint"])
    works = {work.name: work for work in forecast(job)}
    # The base and two plans; for 4 counts at most 3 evaluations, for 8 at most 4.
    assert (works["gates"].units, works["gates"].todo) == (3, 3)
    assert (works["gates, cliffs"].units, works["gates, cliffs"].todo) == (7, 7)
    assert works["gates"].cost.note == "needles of 400 tokens are skipped"
    size = job.size
    by_hand = size.forward_flops(job.base_drops, 8 * 200, 200) + size.forward_flops(job.base_drops, 8 * 24, 24)
    by_hand += 3 * size.forward_flops(job.base_drops, 8 * gates.SHORT_TOKENS, gates.SHORT_TOKENS)
    assert works["gates"].cost.flops == 3 * by_hand


def test_gates_pass_attention_1_and_stop_attention_8_of_the_demo(tmp_path):
    """The orders are those of `make demo`: attention layers by their importance."""
    values = {
        "name": "demo",
        "model": {"path": "demo:model", "dtype": "float32"},
        "calibration": {"source": "demo:calibration.jsonl", "num_samples": 32, "seq_len": 256},
        "evaluation": {
            "batch_size": 32,
            "divergence": None,
            "gates": {"needle_lengths": [192], "generated_tokens": 48},
        },
        "store": str(tmp_path),
    }
    job = open_job(parse_config(values, "test"))
    order = (11, 7, 2, 10, 1, 9, 3, 5)
    run = run_here(job, [variant(job, f"attention-{count}", order[:count]) for count in (1, 8)])
    gates.STAGE.run(run)
    assert run.verdicts["attention-1"].outcome == "accept"
    stopped = run.verdicts["attention-8"]
    assert stopped.outcome == "regression"
    assert {one.gate for one in stopped.gates if one.outcome == "regression"} == {"needle-192", "early-stop"}
    silent = {one.gate for one in stopped.gates if one.outcome == "not informative"}
    assert silent == {"arithmetic", "brackets", "copying"}
