"""Made-up results of dropping and quantizing: a base and two plans, as they are, by awq and by gptq; all served."""

import math
import random
from dataclasses import replace

from serving_results import NUM_LAYERS, served_results

from drop_ray.report.results import DocumentRow, EvaluationRow, LayerErrorRow, PlanRow, Quantization, Results

PLANS = ("base", "attention-4", "block-4")
METHODS = ("awq", "gptq")
NUM_SAMPLES = 40
NATS = {"base": 2.0, "attention-4": 2.02, "block-4": 2.3}
"""Log-perplexities of the plans as they are."""
ADDED = {"awq": 0.04, "gptq": 0.03}
"""Log-perplexity that quantizing adds to every plan."""
EXCESS = {("block-4", "gptq"): 0.05}
"""What it adds to one plan beyond that."""
SHARES = {"awq": 0.9, "gptq": 0.6}
"""Errors as shares of those of rounding to nearest."""
GAIN = 1.5
"""Speed of a form, relative to its plan."""


def quantized_results() -> Results:
    served = served_results()
    plans = [plan for plan in served.plans if plan.name in PLANS]
    forms = [_form(plan, method) for method in METHODS for plan in plans]
    everything = [*plans, *forms]
    return replace(
        served,
        plans=everything,
        evaluations=[row for plan in everything for row in _evaluations(served, plan)],
        documents=[row for plan in everything for row in _documents(served, plan)],
        serving=[row for plan in everything for row in _serving(served, plan)],
        serving_facts=[row for row in served.serving_facts if row.plan in PLANS],
    )


def _form(plan: PlanRow, method: str) -> PlanRow:
    errors = [
        _error(layer, module, method)
        for layer in range(NUM_LAYERS)
        for module, dropped in (("attention", plan.drop_attn), ("mlp", plan.drop_mlp))
        if layer not in dropped
    ]
    return replace(
        plan,
        name=f"{plan.name}-{method}",
        checkpoint=f"s3://b/checkpoints/{plan.name}-{method}/",
        weight_bytes=int(0.6 * plan.parameters),
        quantization=Quantization(plan.name, method, method, 4, 128, method == "gptq", False, tuple(errors)),
    )


def _error(layer: int, module: str, method: str) -> LayerErrorRow:
    nearest = 0.004 * (1 + 0.3 * layer) * (2 if module == "mlp" else 1)
    norm = 1000.0 * (layer + 1)
    share = SHARES[method]
    return LayerErrorRow(layer, module, share * nearest, nearest, share * nearest * norm, nearest * norm)


def _of(plan: PlanRow) -> str:
    return plan.quantization.of if plan.quantization else plan.name


def _nats(plan: PlanRow) -> float:
    if plan.quantization is None:
        return NATS[plan.name]
    how = plan.quantization
    return NATS[how.of] + ADDED[how.label] + EXCESS.get((how.of, how.label), 0.0)


def _samples(plan: PlanRow) -> list[float]:
    """Nats per token of every sample: texts differ much, forms of a plan little; the mean is exact."""
    text, own = random.Random("text"), random.Random(plan.name)
    values = [text.gauss(0, 0.3) + own.gauss(0, 0.01) for _ in range(NUM_SAMPLES)]
    shift = _nats(plan) - math.fsum(values) / NUM_SAMPLES
    return [value + shift for value in values]


def _evaluations(served: Results, plan: PlanRow):
    value = math.exp(_nats(plan))
    yield EvaluationRow(plan.name, "wikitext", "token_perplexity", value, 0.05 * value, False, NUM_SAMPLES, None, True)
    accuracy = math.fsum(row.value for row in _correct(served, plan)) / len(_correct(served, plan))
    for row in served.evaluations:
        if row.plan == _of(plan):
            yield replace(row, plan=plan.name, value=accuracy)


def _correct(served: Results, plan: PlanRow) -> list[DocumentRow]:
    """The plan's own documents, of which a form gets two more wrong."""
    rows = [replace(row, plan=plan.name) for row in served.documents if row.plan == _of(plan)]
    lost = 2 if plan.quantization else 0
    right = [row.doc_id for row in rows if row.value][:lost]
    return [replace(row, value=0.0) if row.doc_id in right else row for row in rows]


def _documents(served: Results, plan: PlanRow):
    yield from _correct(served, plan)
    for sample, value in enumerate(_samples(plan)):
        yield DocumentRow(plan.name, "wikitext", "nll", sample, value)


def _serving(served: Results, plan: PlanRow):
    for row in served.serving:
        if row.plan != _of(plan):
            continue
        if plan.quantization is None:
            yield row
        elif row.comparison == "equal_batch":
            faster = {name: GAIN * getattr(row, name) for name in ("plan_value", "ratio", "low", "high")}
            yield replace(row, plan=plan.name, control=False, predicted=None, **faster)
