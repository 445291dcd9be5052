"""Plans with limits on a tiny model in this process: limits are kept, swaps help, and a run goes on where it was."""

import itertools
import json
import math
from pathlib import Path

import local_run
import pytest
import tiny_models
import tiny_run
import torch

from drop_ray.errors import UserError
from drop_ray.job.artifacts import DIVERGENCE
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint, weight_file_bytes
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import Module, candidates, without
from drop_ray.planning.plans import read_plan
from drop_ray.stages.forecast import forecast

AT = {"prompt": 64, "output": 16, "batch": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


def config_of(inputs, store, *limits, **fields):
    """Each of `limits` is a limit, or a whole line."""
    plans = [{"strategy": "budget", **(line if "limit" in line else {"limit": line})} for line in limits]
    fields = {"calibration": {"source": str(inputs / "text.txt"), "num_samples": 8, "seq_len": 32}, **fields}
    return tiny_run.config_of(inputs, store, tasks=[], plans=plans, **fields)


def plan(inputs, store, *limits, order=lambda shares: shares, **fields):
    """The state of a run after the stage plan."""
    return local_run.run_stages(open_job(config_of(inputs, store, *limits, **fields)), "plan", order)


def measured_kl(state):
    """Mean KL of every model that was measured, by drop lists."""
    found = {}
    for entry in state.ledger.entries:
        if entry.stage == "plan":
            rows = state.read_table(entry.commit, DIVERGENCE).to_pylist()
            drops = DropLists(*(tuple(entry.step.identity[key]) for key in ("drop_attn", "drop_mlp")))
            found[drops] = math.fsum(row["kl"] for row in rows) / sum(row["tokens"] for row in rows)
    return found


@pytest.fixture(scope="module")
def planned(inputs, tmp_path_factory):
    """A run with two budgets, after the stage plan."""
    store = tmp_path_factory.mktemp("planned") / "store"
    return plan(inputs, store, {"bytes": "0.8x"}, {"kv_bytes_per_token": "0.5x", "sub_layers": 5})


def test_the_plan_keeps_its_limits_and_is_no_worse_than_the_knapsacks_solution(planned):
    job, kl = planned.job, measured_kl(planned)
    for made in planned.plans:
        outcome = made.budget
        assert outcome.kl_plan == kl[made.drops]
        solution = without(job.base_drops, [Module(*module) for module in outcome.solution])
        assert outcome.kl_plan <= outcome.kl_solution == kl[solution]
        assert outcome.score_plan >= outcome.score_solution
        assert outcome.file_bytes == weight_file_bytes(job.checkpoint, made.drops, torch.float32)
    first, second = planned.plans
    assert (first.name, first.strategy, first.metric) == ("budget-bytes-0.8x", "budget-joint", "cosine")
    (size,) = first.budget.limits
    assert first.budget.file_bytes <= size.plan <= size.limit == pytest.approx(0.8 * size.base)
    assert [(one.name, one.asked) for one in second.budget.limits] == [
        ("kv_bytes_per_token", "0.5x"),
        ("sub_layers", "5"),
    ]
    assert len(second.drop_attn) == 2
    assert second.drops.count == 3
    assert all(one.plan <= one.limit for one in second.budget.limits)


def test_the_knapsacks_solution_is_the_cheapest_of_all_drops(planned):
    made, job = planned.plans[0], planned.job
    table = planned.scores[DropLists()]["cosine"]
    base = weight_file_bytes(job.checkpoint, DropLists(), torch.float32)
    sums = [
        math.fsum(table.mean(module.kind, module.layer) for module in drop)
        for count in range(1, 8)
        for drop in itertools.combinations(candidates("joint", Layers(4), DropLists()), count)
        if base - 4 * (job.size.parameters - job.size.kept_parameters(without(DropLists(), drop))) <= 0.8 * base
    ]
    assert made.budget.score_solution == pytest.approx(min(sums))


def test_without_swaps_the_solution_is_measured_all_the_same(inputs, tmp_path):
    state = plan(inputs, tmp_path / "store", {"limit": {"sub_layers": 7}, "swap_rounds": 0})
    (made,) = state.plans
    assert list(measured_kl(state)) == [made.drops]
    assert made.budget.kl_plan == made.budget.kl_solution


def test_a_block_is_a_pair(inputs, tmp_path):
    state = plan(inputs, tmp_path / "store", {"limit": {"bytes": "0.9x"}, "of": "block"})
    (made,) = state.plans
    assert made.name == "budget-block-bytes-0.9x"
    assert made.drop_attn == made.drop_mlp
    # All four of them were looked at.
    assert len(measured_kl(state)) == 4
    assert made.budget.kl_plan == min(measured_kl(state).values())


def test_a_speedup_is_reckoned_for_the_stated_hardware_on_whatever_device_the_run_is(inputs, tmp_path):
    limit = {"speedup": "1.2x", "at": AT}
    state = plan(inputs, tmp_path / "store", limit, execution={"hardware": "h100"})
    (made,) = state.plans
    (speedup,) = made.budget.limits
    assert speedup.base == 1
    assert speedup.plan >= speedup.limit == pytest.approx(1.2)


def test_other_limits_and_other_runs_share_what_was_measured(inputs, planned):
    store = planned.job.config.store
    again = plan(inputs, store, {"bytes": "0.8x"}, {"kv_bytes_per_token": "0.5x", "sub_layers": "0.63x"}, name="other")
    assert sum(entry.computed for entry in again.ledger.entries) == 0
    assert [made.drops for made in again.plans] == [made.drops for made in planned.plans]


def test_a_lost_driver_goes_on_and_the_order_of_delivery_changes_nothing(inputs, tmp_path, planned):
    class LostError(Exception):
        pass

    def lost(shares):
        if any("variants" in share.kind for share in shares) and len(shares) < 9:
            yield shares[0]
            raise LostError
        yield from shares

    line, store = {"bytes": "0.8x"}, tmp_path / "broken"
    with pytest.raises(LostError):
        plan(inputs, store, line, order=lost, execution={"num_workers": 3})
    resumed = plan(inputs, store, line, order=lambda shares: list(reversed(shares)))
    assert [made.to_json() for made in resumed.plans] == [planned.plans[0].to_json()]
    entries = [entry for entry in resumed.ledger.entries if entry.stage == "plan"]
    assert 0 < sum(entry.computed for entry in entries) < len(entries)


def test_a_dry_run_names_the_plan_and_counts_what_is_to_be_measured(inputs, tmp_path):
    config = config_of(inputs, tmp_path / "store", {"sub_layers": 6})
    before = {work.name: work for work in forecast(open_job(config))}
    assert before["plan"].todo == 1
    assert "budget-sublayers-6" in before["plan"].cost.note
    local_run.run_stages(open_job(config), "score")
    scored = {work.name: work for work in forecast(open_job(config))}
    # The solution and eight swaps, then three rounds of eight at most.
    assert 9 <= scored["plan by predictions"].todo <= 9 + 3 * 8
    local_run.run_stages(open_job(config), "plan")
    after = {work.name: work for work in forecast(open_job(config))}
    assert (after["plan"].todo, after["plan"].cost.note) == (0, "")


def test_the_plan_file_says_what_came_of_its_limits_and_is_read_as_a_plan_by_hand(planned):
    made, job = planned.plans[0], planned.job
    file = Path(job.store.location(job.run_folder)) / "plans" / f"{made.name}.json"
    stored = json.loads(file.read_text())["budget"]
    assert stored["limits"][0]["name"] == "bytes"
    assert stored["kl_plan"] == made.budget.kl_plan
    read = read_plan(file, Layers(4), job.checkpoint.identity)
    assert (read.drops, read.budget) == (made.drops, None)


def test_a_form_of_its_own_drops_as_much_as_it_still_has_to(inputs, tmp_path):
    """Quantized weights are smaller, so that less is dropped, or other things are."""
    folder = tiny_models.write_checkpoint(tmp_path / "wide", hidden_size=128, intermediate_size=192)
    quantization = [{"method": "gptq", "group_size": 32, "held_out": 2}]
    line = {"limit": {"bytes": "0.6x"}, "quantized": ["none", "gptq"], "swap_rounds": 0}
    fields = {"model": {"path": str(folder), "dtype": "float32"}, "quantization": quantization}
    state = plan(inputs, tmp_path / "store", {**line, "limit": {"bytes": "0.25x"}}, **fields)
    plain, quantized = state.plans
    assert [made.name for made in state.plans] == ["budget-bytes-0.25x-swaps0", "budget-bytes-0.25x-for-gptq-swaps0"]
    assert quantized.drops.count < plain.drops.count
    (size,) = quantized.budget.limits
    assert size.base == plain.budget.limits[0].base
    assert size.plan <= size.limit
    assert (quantized.budget.quantized, quantized.budget.file_bytes) == ("gptq", None)
    for fault, message in (
        ({"limit": {"bytes": "0.9x"}}, r"limit: holds after gptq before anything .* leave gptq out of `quantized`"),
        ({"limit": {"bytes": "0.01x"}}, r"limit.bytes: 0.01x cannot be reached: "),
    ):
        with pytest.raises(UserError, match=message):
            open_job(config_of(inputs, tmp_path / "store", {**line, **fault}, **fields))
    with pytest.raises(
        UserError, match=r"plans\[0\].quantized: no line of `quantization` is called gptq; there are: none"
    ):
        config_of(inputs, tmp_path / "store", line)
    named = {**fields, "quantization": [{**quantization[0], "plans": ["budget-bytes-0.6x"]}]}
    with pytest.raises(UserError, match=r"quantization \(gptq\).plans: plans\[0\] makes budget-bytes-0.6x-.*for-gptq"):
        open_job(config_of(inputs, tmp_path / "store", line, **named))


@pytest.mark.parametrize("drops", [DropLists(), DropLists((1, 2), (0,))])
def test_the_size_of_a_checkpoint_is_known_before_it_is_written(inputs, tmp_path, drops):
    checkpoint = open_checkpoint(inputs / "model")
    export_checkpoint(checkpoint, drops, tmp_path / "exported")
    written = sum(path.stat().st_size for path in (tmp_path / "exported").glob("*.safetensors"))
    assert weight_file_bytes(checkpoint, drops, torch.float32) == written
    half = weight_file_bytes(checkpoint, drops, torch.bfloat16)
    numbers = sum(math.prod(tensor.shape) for tensor in open_checkpoint(tmp_path / "exported").tensors.values())
    assert written - half == 2 * numbers


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"bytes": "1 kB"}, r"plans\[0\].limit.bytes: 1 kB cannot be reached: without all .* the model has [\d.]+ kB"),
        ({"bytes": "3 GB"}, r"plans\[0\].limit: holds before anything is dropped \(bytes [\d.e-]+ GB\)"),
        ({"speedup": "1.1x", "at": AT}, r"plans\[0\].limit.speedup: .* execution: \{hardware: h100\}"),
        ({"limit": {"sub_layers": 4}, "metric": "angular"}, r"plans\[0\].metric: angular is not scored"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_any_work(inputs, tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        open_job(config_of(inputs, tmp_path / "store", line))
    assert not [*(tmp_path / "store").glob("artifacts/*")]
