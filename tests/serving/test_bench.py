"""The benchmark with engines that have no model: what is measured, in which order, and what happens when one dies."""

from dataclasses import replace

import pytest
from fake_engine import BLOCK, FakeEngine, bench_spec
from plain_size import KV_BYTES, model_size

from drop_ray.config import ServingConfig
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.serving.bench import run_bench
from drop_ray.serving.engine import EngineError
from drop_ray.serving.gate import GateError

BASE, HALF = DropLists(), DropLists(attn=(1, 2))


def serving(**fields):
    values = {"workloads": [{"prompt": 12, "output": 4}], "batch_sizes": [1, 2, 4], **fields}
    return ServingConfig.model_validate(values)


class Engines:
    """Starts fake engines, and remembers what they did. traits: of engines by whose they are and their number."""

    def __init__(self, **traits):
        self.log, self.traits, self.started = [], traits, []

    def __call__(self, settings, who):
        self.started.append(who)
        name = who.removeprefix("the ").replace("'s ", "_")
        given = self.traits.get(f"{name}_{self.started.count(who)}", self.traits.get(name, {}))
        return FakeEngine(settings, self.log, name, **given)

    def timed(self):
        """(engine, batch) of every timed generation, in order."""
        return [(who, batch) for who, batch, length, _ in (e for e in self.log if len(e) == 4) if length == 4]


def rows(result, metric="decode_tokens_per_s"):
    return {(r["comparison"], r["batch_size"], r["plan_batch_size"]): r for r in result.rows if r["metric"] == metric}


def test_base_and_variant_take_turns_and_see_the_same_prompts():
    engines = Engines()
    run_bench(bench_spec(serving(batch_sizes=[1]), BASE, DropLists(mlp=(1,))), engines)
    turns = [entry for entry in engines.log if len(entry) == 4 and entry[1:3] == (1, 4)]
    # The sweep, then five pairs, each with prompts of its own.
    assert "".join(who[0] for who, *_ in turns) == "b" + "bv" + "vb" + "bv" + "vb" + "bv"
    firsts = [first for *_, first in turns[1:]]
    assert firsts[::2] == firsts[1::2]
    assert len(set(firsts)) > 1


@pytest.mark.parametrize(("mode", "steps"), [("resident", [*range(1, 11)]), ("reload", [*range(1, 6)])])
def test_progress_counts_the_pairs(mode, steps):
    told = []
    spec = bench_spec(serving(batch_sizes=[1, 2], pairs=5, mode=mode), BASE, DropLists(mlp=(1,)))
    run_bench(spec, Engines(), lambda done, total: told.append((done, total)))
    assert told == [(step, steps[-1]) for step in steps]


def test_ratios_are_above_one_where_the_variant_is_faster_whatever_the_metric():
    result = run_bench(bench_spec(serving(), BASE, HALF), Engines())
    # A step takes 0.5 s with four attention layers and 0.3 s with two.
    for row in result.rows:
        if row["comparison"] == "equal_batch":
            assert row["ratio"] == pytest.approx(5 / 3), row["metric"]
            assert (row["low"], row["high"], row["pairs"]) == (pytest.approx(5 / 3), pytest.approx(5 / 3), 5)
        assert row["predicted"] > 0
    assert rows(result)["equal_batch", 1, 1]["base"] == pytest.approx(2)


def test_at_equal_memory_the_variant_has_the_batch_that_freed_kv_allows():
    # Ten blocks of 16 tokens: of requests of one block ten fit, of the config's batch sizes 8.
    result = run_bench(bench_spec(serving(batch_sizes=[1, 8, 32]), BASE, HALF), Engines())
    assert [key for key in rows(result) if key[0] == "equal_memory"] == [("equal_memory", 8, 16)]
    assert rows(result)["equal_memory", 8, 16]["ratio"] == pytest.approx(2 * 5 / 3)
    assert result.facts["kv"]["plan_tokens"] == 2 * result.facts["kv"]["base_tokens"] == 20 * BLOCK
    assert result.facts["kv"]["predicted_ratio"] == 2


def test_a_variant_that_frees_no_kv_has_no_larger_batch():
    result = run_bench(bench_spec(serving(), BASE, DropLists(mlp=(1,))), Engines())
    assert {row["comparison"] for row in result.rows} == {"equal_batch"}


def test_the_sweep_stops_where_a_larger_batch_gives_no_more_tokens():
    slow = {"rate_of": lambda batch: max(1, batch / 2)}  # from 2 on a step takes as much longer as it is larger
    engines = Engines(base=slow, variant=slow)
    result = run_bench(bench_spec(serving(batch_sizes=[1, 2, 4, 8]), BASE, BASE), engines)
    assert [key[1] for key in rows(result)] == [1, 2, 4]


def test_the_control_measures_the_base_against_itself_and_runs_one_reference():
    engines = Engines()
    result = run_bench(bench_spec(serving(), BASE, BASE), engines)
    assert engines.started == ["the base's reference", "the base", "the variant"]
    assert all(row["control"] and row["ratio"] == 1 for row in result.rows)


def test_reload_keeps_one_engine_at_a_time_and_measures_everything_in_each_load():
    engines = Engines()
    spec = bench_spec(serving(mode="reload", pairs=3), BASE, HALF)
    result = run_bench(spec, engines)
    assert engines.started[2:] == ["the base", "the variant", "the variant", "the base", "the base", "the variant"]
    loads = [entry for entry in engines.log if "reference" not in entry[0]]
    current = None
    for entry in loads:
        current = current or entry[0]
        assert entry[0] == current
        if entry[1] == "closed":
            current = None
    resident = run_bench(bench_spec(serving(), BASE, HALF), Engines())
    assert rows(result).keys() == rows(resident).keys()
    assert {row["pairs"] for row in result.rows} == {3}


def test_the_pair_of_an_engine_that_dies_is_repeated_and_nothing_else():
    calm = Engines()
    expected = run_bench(bench_spec(serving(batch_sizes=[1]), BASE, HALF), calm)
    engines = Engines(variant_1={"dies_at": {5}})
    result = run_bench(bench_spec(serving(batch_sizes=[1]), BASE, HALF), engines)
    assert engines.started.count("the variant") == 2
    assert rows(result) == rows(expected)
    lost = engines.timed()
    assert len(lost) in (len(calm.timed()), len(calm.timed()) + 1)  # the base's half of the pair, if it went first


def test_an_engine_that_dies_twice_in_a_pair_fails_with_its_last_lines_and_all_are_closed():
    engines = Engines(variant_1={"dies_at": {5}}, variant_2={"dies_at": {2}})
    with pytest.raises(EngineError, match="(?s)the engine of variant died.*out of luck"):
        run_bench(bench_spec(serving(batch_sizes=[1]), BASE, HALF), engines)
    closed = [entry[0] for entry in engines.log if entry[1] == "closed"]
    assert closed.count("variant") == engines.started.count("the variant")
    assert closed.count("base") == engines.started.count("the base")


def test_a_round_of_reload_is_repeated_with_both_engines():
    engines = Engines(variant_1={"dies_at": {4}})
    result = run_bench(bench_spec(serving(mode="reload", pairs=3, batch_sizes=[1]), BASE, HALF), engines)
    assert engines.started[2:6] == ["the base", "the variant", "the base", "the variant"]
    assert {row["pairs"] for row in result.rows} == {3}


def test_an_engine_that_computes_another_model_is_timed_no_more():
    engines = Engines(variant={"shift": 0.5})
    with pytest.raises(
        GateError, match=r"the variant's engine .*float32: mean difference 0.5 .*Nothing of it is published"
    ):
        run_bench(bench_spec(serving(), BASE, HALF), engines)
    assert engines.timed() == []


def test_an_engine_that_keeps_another_kv_cache_is_timed_no_more():
    engines = Engines()
    halved = replace(model_size(), kv_parameters=(KV_BYTES // 8,) * 4)
    with pytest.raises(GateError, match="32 bytes per token, expected 16; 10 blocks of 16 tokens, expected 20"):
        run_bench(bench_spec(serving(), BASE, HALF, size=halved), engines)
    assert engines.timed() == []


def test_a_batch_that_does_not_fit_in_the_kv_cache_is_named():
    with pytest.raises(UserError, match=r"serving.batch_sizes: 16 requests of workload 12\+4 do not fit .* 160 tokens"):
        run_bench(bench_spec(serving(batch_sizes=[16]), BASE, HALF), Engines())
