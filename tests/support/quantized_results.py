"""Made-up results of dropping and quantizing: a base and two variants, as they are, by awq and by gptq; all served."""

import math
import random
from dataclasses import replace

from serving_results import NUM_LAYERS, served_results

from drop_ray.report.results import Results
from drop_ray.report.rows import DocumentRow, EvaluationRow, Quantization, QuantizationErrorRow, VariantRow

VARIANTS = ("base", "attention-4", "block-4")
METHODS = ("awq", "gptq")
NUM_SAMPLES = 40
NATS = {"base": 2.0, "attention-4": 2.02, "block-4": 2.3}
"""Log-perplexities of the variants as they are."""
ADDED = {"awq": 0.04, "gptq": 0.03}
"""Log-perplexity that quantizing adds to every variant."""
EXCESS = {("block-4", "gptq"): 0.05}
"""What it adds to one variant beyond that."""
SHARES = {"awq": 0.9, "gptq": 0.6}
"""Errors as shares of those of rounding to nearest."""
GAIN = 1.5
"""Speed when quantized, to that without."""


def quantized_results() -> Results:
    served = served_results()
    plain = [variant for variant in served.variants if variant.name in VARIANTS]
    quantized = [_quantized(variant, method) for method in METHODS for variant in plain]
    everything = [*plain, *quantized]
    return replace(
        served,
        variants=everything,
        evaluations=[row for variant in everything for row in _evaluations(served, variant)],
        documents=[row for variant in everything for row in _documents(served, variant)],
        serving=[row for variant in everything for row in _serving(served, variant)],
        engines=[row for row in served.engines if row.variant in VARIANTS],
        quantization_errors=[row for variant in quantized for row in _errors(variant)],
    )


def _quantized(variant: VariantRow, method: str) -> VariantRow:
    return replace(
        variant,
        name=f"{variant.name}-{method}",
        checkpoint=f"s3://b/checkpoints/{variant.name}-{method}/",
        weight_bytes=int(0.6 * variant.parameters),
        quantization=Quantization(variant.name, method, method, 4, 128, method == "gptq", False),
    )


def _errors(variant: VariantRow):
    for layer in range(NUM_LAYERS):
        for module, dropped in (("attention", variant.drop_attn), ("mlp", variant.drop_mlp)):
            if layer not in dropped:
                yield _error(variant.name, layer, module, variant.quantization.label)


def _error(variant: str, layer: int, module: str, method: str) -> QuantizationErrorRow:
    nearest = 0.004 * (1 + 0.3 * layer) * (2 if module == "mlp" else 1)
    norm = 1000.0 * (layer + 1)
    share = SHARES[method]
    return QuantizationErrorRow(
        variant, layer, module, share * nearest, nearest, share * nearest * norm, nearest * norm
    )


def _of(variant: VariantRow) -> str:
    return variant.quantization.of if variant.quantization else variant.name


def _nats(variant: VariantRow) -> float:
    if variant.quantization is None:
        return NATS[variant.name]
    how = variant.quantization
    return NATS[how.of] + ADDED[how.label] + EXCESS.get((how.of, how.label), 0.0)


def _samples(variant: VariantRow) -> list[float]:
    """Nats per token of every sample: texts differ much, the same one quantized little; the mean is exact."""
    text, own = random.Random("text"), random.Random(variant.name)
    values = [text.gauss(0, 0.3) + own.gauss(0, 0.01) for _ in range(NUM_SAMPLES)]
    shift = _nats(variant) - math.fsum(values) / NUM_SAMPLES
    return [value + shift for value in values]


def _evaluations(served: Results, variant: VariantRow):
    value = math.exp(_nats(variant))
    yield EvaluationRow(
        variant.name, "wikitext", "token_perplexity", value, 0.05 * value, False, NUM_SAMPLES, None, True
    )
    accuracy = math.fsum(row.value for row in _correct(served, variant)) / len(_correct(served, variant))
    for row in served.evaluations:
        if row.variant == _of(variant):
            yield replace(row, variant=variant.name, value=accuracy)


def _correct(served: Results, variant: VariantRow) -> list[DocumentRow]:
    """The variant's own documents, of which a quantized one gets two more wrong."""
    rows = [replace(row, variant=variant.name) for row in served.documents if row.variant == _of(variant)]
    lost = 2 if variant.quantization else 0
    right = [row.doc_id for row in rows if row.value][:lost]
    return [replace(row, value=0.0) if row.doc_id in right else row for row in rows]


def _documents(served: Results, variant: VariantRow):
    yield from _correct(served, variant)
    for sample, value in enumerate(_samples(variant)):
        yield DocumentRow(variant.name, "wikitext", "nll", sample, value)


def _serving(served: Results, variant: VariantRow):
    for row in served.serving:
        if row.variant != _of(variant):
            continue
        if variant.quantization is None:
            yield row
        elif row.comparison == "equal_batch":
            faster = {name: GAIN * getattr(row, name) for name in ("variant_value", "ratio", "low", "high")}
            yield replace(row, variant=variant.name, control=False, predicted=None, **faster)
