"""A made-up run of many variants and tasks: plans as they are, refitted, and quantized by two methods; all served."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
from serving_results import served_rows

from drop_ray.evaluation.divergence.panel import panel_of
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, Quantization, ScoreRow, VariantRow

NUM_LAYERS, NUM_PLANS, NUM_DOCUMENTS, NUM_SAMPLES = 32, 10, 60, 8
TASKS = ("arc_challenge", "boolq", "gsm8k", "hellaswag", "mmlu", "openbookqa", "piqa", "truthfulqa_mc2", "winogrande")
CHANGES = ((), ("refit",), ("awq",), ("refit", "gptq"))
STRATEGIES = ("attention", "mlp", "joint", "block", "block_consecutive")
PARAMETERS, KV_BYTES = 8_000_000_000, 131_072


def large_results(num_plans: int = NUM_PLANS, changes: Sequence[tuple[str, ...]] = CHANGES) -> Results:
    """40 variants and the base, 9 tasks, or what is asked for."""
    draw = random.Random(0)
    scores = [
        ScoreRow("base", module, layer, 1, "cosine", draw.uniform(0.01, 0.3), 0.002)
        for module in ("attention", "mlp", "block")
        for layer in range(NUM_LAYERS)
    ]
    base = VariantRow("base", "base", None, 0, (), (), PARAMETERS, 0, KV_BYTES, 0, None, 2 * PARAMETERS)
    variants = [base, *(_variant(plan, made) for plan in range(num_plans) for made in changes)]
    documents = [row for variant in variants for task in TASKS for row in _documents(variant, task, draw)]
    values = {(variant.name, task): 0.0 for variant in variants for task in TASKS}
    for row in documents:
        values[row.variant, row.task] += row.value / NUM_DOCUMENTS
    evaluations = [
        EvaluationRow(name, task, "acc", value, 0.06, True, NUM_DOCUMENTS, 5, True)
        for (name, task), value in values.items()
    ]
    panels = {variant.name: list(_samples(variant)) for variant in variants[1:]}
    run = RunFacts("large", "Llama-large", "0123", NUM_LAYERS, "bfloat16", "c4", "2026-01-01", {"torch": "2"}, "a: 1\n")
    return Results(
        run,
        scores,
        variants,
        evaluations,
        documents,
        [],
        serving=[row for variant in variants for row in served_rows(variant)],
        divergences=[_panel(name, samples) for name, samples in panels.items()],
        divergence_samples=[row for samples in panels.values() for row in samples],
        divergence_text=DivergenceText("c4", NUM_SAMPLES, 512),
    )


def _variant(plan: int, changes: tuple[str, ...]) -> VariantRow:
    strategy, dropped = STRATEGIES[plan % len(STRATEGIES)], tuple(range(4, 4 + 2 * (plan // len(STRATEGIES) + 2)))
    attn, mlp = (() if strategy == "mlp" else dropped), (() if strategy == "attention" else dropped)
    name = "-".join((strategy, str(len(dropped)), *changes))
    method = changes[-1] if changes and changes[-1] != "refit" else None
    of = "-".join((strategy, str(len(dropped)), *changes[:-1]))
    saved = 40_000_000 * len(attn) + 170_000_000 * len(mlp)
    saved_kv = KV_BYTES // NUM_LAYERS * len(attn)
    return VariantRow(
        name,
        strategy,
        "cosine",
        len(dropped),
        attn,
        mlp,
        PARAMETERS - saved,
        saved,
        KV_BYTES - saved_kv,
        saved_kv,
        f"s3://bucket/artifacts/export-{plan}/checkpoint/",
        2 * (PARAMETERS - saved) // (4 if method else 1),
        Quantization(of, method, method, 4, 128, False, False) if method else None,
        changes,
        "refit" if "refit" in changes else None,
    )


def _harm(variant: VariantRow) -> float:
    return variant.sublayers_dropped * (0.4 if variant.refit else 1) + bool(variant.quantization)


def _documents(variant: VariantRow, task: str, draw: random.Random) -> Iterator[DocumentRow]:
    right = 0.75 - 0.01 * _harm(variant)
    for document in range(NUM_DOCUMENTS):
        yield DocumentRow(variant.name, task, "acc", document, float(draw.random() < right))


def _samples(variant: VariantRow) -> Iterator[DivergenceSampleRow]:
    chance = random.Random(variant.name)
    for sample in range(NUM_SAMPLES):
        kl = 0.01 * _harm(variant) * chance.uniform(0.9, 1.1)
        yield DivergenceSampleRow(variant.name, sample, 511, kl, 2.0, 2.0 + kl, 1 - kl, 1 - kl)


def _panel(name: str, samples: Sequence[DivergenceSampleRow]) -> DivergenceRow:
    kl, base, after, agreed, acceptance = (
        np.array([[getattr(row, column)] for row in samples])
        for column in ("kl", "base_nll", "variant_nll", "top1_agreement", "acceptance")
    )
    return DivergenceRow(**vars(panel_of(kl, base, after, agreed, acceptance)), variant=name)
