"""Made-up results of a served and evaluated run, realistic figures: four variants, two workloads, three batches."""

import random

from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EngineRow, EvaluationRow, ServingRow, VariantRow
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
    variants = [
        VariantRow("base", "base", None, 0, (), (), 8_030_000_000, 0, 65_536, 0, None, 16_060_000_000),
        *(_variant(name) for name in GAINS),
    ]
    facts = RunFacts("demo", "Llama-3-8B", "0123", NUM_LAYERS, "bfloat16", "c4", "2026-11-23", {"vllm": "0.32.0"}, "")
    documents = list(_documents())
    return Results(
        run=facts,
        scores=[],
        variants=variants,
        evaluations=[_evaluation(variant.name, documents) for variant in variants],
        documents=documents,
        artifacts=[],
        serving=[row for variant in variants for row in served_rows(variant)],
        engines=[_engine(variant) for variant in variants],
    )


def _variant(name: str) -> VariantRow:
    strategy, size = name.rsplit("-", 1)
    layers = tuple(range(NUM_LAYERS - int(size), NUM_LAYERS))
    attn, mlp = layers if strategy != "mlp" else (), layers if strategy != "attention" else ()
    saved = 42_000_000 * len(attn) + 176_000_000 * len(mlp)
    parameters, kv = 8_030_000_000 - saved, 4096 * len(attn)
    sizes = (parameters, saved, 65_536 - kv, kv)
    return VariantRow(name, strategy, "cosine", int(size), attn, mlp, *sizes, None, 2 * parameters)


def _documents():
    for variant, lost in LOST.items():
        chance = random.Random(variant)
        for doc_id in range(NUM_DOCUMENTS):
            right = doc_id < 0.7 * NUM_DOCUMENTS
            yield DocumentRow(variant, "piqa", "acc", doc_id, float(right and chance.random() >= lost / 0.7))


def _evaluation(variant: str, documents: list[DocumentRow]) -> EvaluationRow:
    value = sum(row.value for row in documents if row.variant == variant) / NUM_DOCUMENTS
    return EvaluationRow(
        variant, "piqa", "acc", value, (value * (1 - value) / NUM_DOCUMENTS) ** 0.5, True, 500, 0, True
    )


def served_rows(variant: VariantRow):
    """At equal batches, and with the largest at equal memory too."""
    for workload in WORKLOADS:
        for batch_size in BATCH_SIZES:
            yield from _measured(variant, workload, batch_size, batch_size)
        if variant.kv_bytes_saved_per_token:
            ratio = 65_536 / variant.kv_bytes_per_token
            yield from _measured(variant, workload, BATCH_SIZES[-1], int(BATCH_SIZES[-1] * ratio))


def _measured(variant: VariantRow, workload: str, batch_size: int, variant_batch_size: int):
    gain = GAINS.get(variant.name, 1.0) * (1 + 0.004 * batch_size**0.5 if variant.name != "base" else 1)
    if variant_batch_size > batch_size:
        gain *= 1.15
    rate = 90 * batch_size**0.8
    metrics = {"output_tokens_per_s": rate, "prefill_tokens_per_s": 9000.0, "decode_tokens_per_s": 1.1 * rate}
    for latency, seconds in LATENCIES.items():
        for percentile, factor in (("p50", 1.0), ("p95", 1.3), ("p99", 1.6)):
            metrics[f"{latency}_{percentile}_s"] = seconds * factor * batch_size**0.4
    for metric, value in metrics.items():
        yield _row(variant, workload, batch_size, variant_batch_size, metric, value, gain)


def _row(
    variant: VariantRow, workload: str, batch_size: int, variant_batch_size: int, metric: str, value: float, gain: float
) -> ServingRow:
    chance = random.Random(f"{variant.name} {workload} {batch_size} {variant_batch_size} {metric}")
    higher = metric.endswith("per_s")
    noise = [chance.gauss(1, 0.008) for _ in range(5)]
    base = [value * chance.gauss(1, 0.05) for _ in noise]
    after = [before * (gain if higher else 1 / gain) * factor for before, factor in zip(base, noise, strict=True)]
    ratio = paired_ratio(base, after, higher)
    return ServingRow(
        variant=variant.name,
        workload=workload,
        prompt_tokens=WORKLOADS[workload][0],
        output_tokens=WORKLOADS[workload][1],
        engine="vllm",
        mode="resident",
        control=variant.name == "base",
        comparison="equal_memory" if variant_batch_size > batch_size else "equal_batch",
        batch_size=batch_size,
        variant_batch_size=variant_batch_size,
        metric=metric,
        base_value=sorted(base)[2],
        variant_value=sorted(after)[2],
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        pairs=ratio.pairs,
        predicted=gain * 1.03 if metric.startswith(("prefill", "decode")) and variant.name != "base" else None,
    )


def _engine(variant: VariantRow) -> EngineRow:
    ratio = 65_536 / variant.kv_bytes_per_token
    return EngineRow(
        variant=variant.name,
        engine="vllm",
        engine_version="0.32.0",
        device="NVIDIA H100",
        kv_tokens_base=KV_TOKENS,
        kv_tokens_variant=int(KV_TOKENS * ratio) // 16 * 16,
        kv_predicted_ratio=ratio,
        kv_bytes_per_token_base=65_536,
        kv_bytes_per_token_variant=variant.kv_bytes_per_token,
        weights_bytes_base=2 * 8_030_000_000,
        weights_bytes_variant=2 * variant.parameters,
        peak_bytes_base=30 << 30,
        peak_bytes_variant=29 << 30,
        gate_dtype="bfloat16",
        gate_mean=0.0051,
        gate_p99=0.034,
        gate_top1_agreement=0.998,
        gate_tokens=8192,
        gate_greedy=None,
    )
