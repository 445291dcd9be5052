"""Made-up results of a served and evaluated run, with realistic figures: four plans, two workloads, three batches."""

import random

from drop_ray.report.results import DocumentRow, EvaluationRow, PlanRow, Results, RunFacts, ServingFacts, ServingRow
from drop_ray.serving.ratios import paired_ratio

NUM_LAYERS = 16
WORKLOADS = {"2048+2048": (2048, 2048), "2048+128": (2048, 128)}
BATCH_SIZES = (1, 8, 32)
GAINS = {"attention-4": 1.09, "attention-8": 1.22, "mlp-4": 1.05, "block-4": 1.17}
LOST = {"base": 0.0, "attention-4": 0.002, "attention-8": 0.012, "mlp-4": 0.06, "block-4": 0.09}
KV_TOKENS = 40_000
NUM_DOCUMENTS = 500
LATENCIES = {"ttft": 0.004, "tpot": 0.011, "e2e": 2.4}


def served_results() -> Results:
    plans = [
        PlanRow("base", "base", None, 0, (), (), 8_030_000_000, 0, 65_536, 0, None, 16_060_000_000),
        *(_plan(name) for name in GAINS),
    ]
    facts = RunFacts("demo", "Llama-3-8B", "0123", NUM_LAYERS, "bfloat16", "c4", "2026-11-23", {"vllm": "0.32.0"}, "")
    documents = list(_documents())
    return Results(
        run=facts,
        scores=[],
        plans=plans,
        evaluations=[_evaluation(plan.name, documents) for plan in plans],
        documents=documents,
        artifacts=[],
        serving=[row for plan in plans for row in _serving(plan)],
        serving_facts=[_engine(plan) for plan in plans],
    )


def _plan(name: str) -> PlanRow:
    strategy, size = name.rsplit("-", 1)
    layers = tuple(range(NUM_LAYERS - int(size), NUM_LAYERS))
    attn, mlp = layers if strategy != "mlp" else (), layers if strategy != "attention" else ()
    saved = 42_000_000 * len(attn) + 176_000_000 * len(mlp)
    parameters, kv = 8_030_000_000 - saved, 4096 * len(attn)
    sizes = (parameters, saved, 65_536 - kv, kv)
    return PlanRow(name, strategy, "cosine", int(size), attn, mlp, *sizes, None, 2 * parameters)


def _documents():
    for plan, lost in LOST.items():
        chance = random.Random(plan)
        for doc_id in range(NUM_DOCUMENTS):
            right = doc_id < 0.7 * NUM_DOCUMENTS
            yield DocumentRow(plan, "piqa", "acc", doc_id, float(right and chance.random() >= lost / 0.7))


def _evaluation(plan: str, documents: list[DocumentRow]) -> EvaluationRow:
    value = sum(row.value for row in documents if row.plan == plan) / NUM_DOCUMENTS
    return EvaluationRow(plan, "piqa", "acc", value, (value * (1 - value) / NUM_DOCUMENTS) ** 0.5, True, 500, 0, True)


def _serving(plan: PlanRow):
    """At equal batches, and with the largest at equal memory too."""
    for workload in WORKLOADS:
        for batch_size in BATCH_SIZES:
            yield from _measured(plan, workload, batch_size, batch_size)
        if plan.kv_bytes_saved_per_token:
            ratio = 65_536 / plan.kv_bytes_per_token
            yield from _measured(plan, workload, BATCH_SIZES[-1], int(BATCH_SIZES[-1] * ratio))


def _measured(plan: PlanRow, workload: str, batch_size: int, plan_batch_size: int):
    gain = GAINS.get(plan.name, 1.0) * (1 + 0.004 * batch_size**0.5 if plan.name != "base" else 1)
    if plan_batch_size > batch_size:
        gain *= 1.15
    rate = 90 * batch_size**0.8
    metrics = {"output_tokens_per_s": rate, "prefill_tokens_per_s": 9000.0, "decode_tokens_per_s": 1.1 * rate}
    for latency, seconds in LATENCIES.items():
        for percentile, factor in (("p50", 1.0), ("p95", 1.3), ("p99", 1.6)):
            metrics[f"{latency}_{percentile}_s"] = seconds * factor * batch_size**0.4
    for metric, value in metrics.items():
        yield _row(plan, workload, batch_size, plan_batch_size, metric, value, gain)


def _row(
    plan: PlanRow, workload: str, batch_size: int, plan_batch_size: int, metric: str, value: float, gain: float
) -> ServingRow:
    chance = random.Random(f"{plan.name} {workload} {batch_size} {plan_batch_size} {metric}")
    higher = metric.endswith("per_s")
    noise = [chance.gauss(1, 0.008) for _ in range(5)]
    base = [value * chance.gauss(1, 0.05) for _ in noise]
    after = [before * (gain if higher else 1 / gain) * factor for before, factor in zip(base, noise, strict=True)]
    ratio = paired_ratio(base, after, higher)
    return ServingRow(
        plan=plan.name,
        workload=workload,
        prompt_tokens=WORKLOADS[workload][0],
        output_tokens=WORKLOADS[workload][1],
        engine="vllm",
        mode="resident",
        control=plan.name == "base",
        comparison="equal_memory" if plan_batch_size > batch_size else "equal_batch",
        batch_size=batch_size,
        plan_batch_size=plan_batch_size,
        metric=metric,
        base_value=sorted(base)[2],
        plan_value=sorted(after)[2],
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        pairs=ratio.pairs,
        predicted=gain * 1.03 if metric.startswith(("prefill", "decode")) and plan.name != "base" else None,
    )


def _engine(plan: PlanRow) -> ServingFacts:
    ratio = 65_536 / plan.kv_bytes_per_token
    return ServingFacts(
        plan=plan.name,
        engine="vllm",
        engine_version="0.32.0",
        device="NVIDIA H100",
        kv_tokens_base=KV_TOKENS,
        kv_tokens_plan=int(KV_TOKENS * ratio) // 16 * 16,
        kv_predicted_ratio=ratio,
        kv_bytes_per_token_base=65_536,
        kv_bytes_per_token_plan=plan.kv_bytes_per_token,
        weights_bytes_base=2 * 8_030_000_000,
        weights_bytes_plan=2 * plan.parameters,
        peak_bytes_base=30 << 30,
        peak_bytes_plan=29 << 30,
        gate_dtype="bfloat16",
        gate_mean=0.0051,
        gate_p99=0.034,
        gate_top1_agreement=0.998,
        gate_tokens=8192,
        gate_greedy=None,
    )
