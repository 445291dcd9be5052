"""A run with two metrics: one sweep scores both, each plan ranks by its own, the report keeps them apart."""

from pathlib import Path

import pyarrow.parquet as pq

from drop_ray.commands.summary import outcome_lines
from drop_ray.pipeline import run
from drop_ray.stages.forecast import forecast_lines

PLANS = [{"strategy": "attention", "drop": [2]}, {"strategy": "attention", "drop": [3], "metric": "angular"}]


def test_both_metrics_are_scored_at_once_and_plans_rank_by_their_own(make_config):
    scoring = {"micro_batch": 2, "range_size": 2}
    both = make_config(scoring={**scoring, "metrics": ["cosine", "angular"]}, plans=PLANS, tasks=())
    outcome = run(both)
    assert [(plan.name, plan.metric) for plan in outcome.plans] == [
        ("attention-2", "cosine"),
        ("attention-3-angular", "angular"),
    ]
    for plan in outcome.plans:
        means = outcome.scores[plan.metric].means("attention")
        assert list(plan.drop_attn) == sorted(means, key=means.get)[: len(plan.drop_attn)]
    alone = run(make_config(store="alone", scoring=scoring), "score")
    assert alone.scores["cosine"] == outcome.scores["cosine"]

    rows = pq.read_table(Path(outcome.published.report).with_name("tables") / "scores.parquet").to_pylist()
    scored = {(row["metric"], row["module"], row["layer"]) for row in rows}
    modules = ("attention", "mlp", "block")
    assert scored == {
        (metric, module, layer) for metric in ("cosine", "angular") for module in modules for layer in range(4)
    }
    strips = [line for line in outcome_lines(outcome) if line.startswith("importance")]
    assert [strip.split(",")[0] for strip in strips] == ["importance (cosine)", "importance (angular)"]


def test_the_order_of_metrics_scores_nothing_again_and_renames_the_plans(make_config):
    scoring = {"micro_batch": 2, "range_size": 2}
    first = run(make_config(scoring={**scoring, "metrics": ["cosine", "angular"]}), "plan")
    turned = make_config(scoring={**scoring, "metrics": ["angular", "cosine"]}, plans=PLANS)
    assert next(line for line in forecast_lines(turned) if line.startswith("plan")).split()[:3] == ["plan", "2", "0"]
    second = run(turned, "plan")
    assert (second.computed, second.found) == (0, first.computed)
    assert [(plan.name, plan.metric) for plan in second.plans] == [
        ("attention-2", "angular"),
        ("attention-3", "angular"),
    ]
