"""Makes rows of the report from a variant's size, its checkpoints and its benchmark."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from drop_ray.config import texts_of
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT, EXPERTS, RECONSTRUCTION
from drop_ray.job.job import Job
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.planning.changes import Drop
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.experts import QuantizedExperts
from drop_ray.quantization.reconstruction import LayerError
from drop_ray.report.rows import EngineRow, Quantization, QuantizationErrorRow, ServingRow, VariantRow
from drop_ray.report.texts import TextRow
from drop_ray.store import Commit
from drop_ray.store.tables import read_table

Done = Mapping[str, Commit]
"""Commit records by path of the step."""


def variant_row(job: Job, variant: Variant, done: Done) -> VariantRow:
    """The row of a variant. Quantizing changes the bytes of its weights, and no other size."""
    row, commit = _row_in_16_bits(job, variant, done), _made(variant, done)
    if commit is None or not isinstance(variant.remake, Quantize):
        return row
    spec = variant.remake.spec
    has_experts = EXPERTS in commit.outputs
    experts = QuantizedExperts.read(job.store.read_bytes(commit, EXPERTS)) if has_experts else QuantizedExperts(0, {})
    return replace(
        row,
        checkpoint=job.store.path_of(commit, CHECKPOINT),
        weight_bytes=sum(output.size for name, output in commit.outputs.items() if name.endswith(".safetensors")),
        quantization=Quantization(
            of=variant.before.name,
            method=spec.method,
            label=spec.label,
            bits=spec.bits,
            group_size=spec.group_size,
            symmetric=spec.is_symmetric,
            desc_act=spec.desc_act,
            experts=experts.total,
            rounded_experts=experts.num_rounded,
            rounded=experts.names,
        ),
    )


def quantization_error_rows(job: Job, variant: Variant, done: Done) -> Iterator[QuantizationErrorRow]:
    """The error of every quantized sub-layer; no rows for a variant that is not quantized."""
    commit = _made(variant, done)
    for stored in read_table(job.store, commit, RECONSTRUCTION).to_pylist() if commit else ():
        error = LayerError(**stored)
        yield QuantizationErrorRow(
            variant=variant.name,
            layer=error.layer,
            module=error.module,
            error=error.method,
            round_to_nearest=error.round_to_nearest,
            error_sum=error.squared_method,
            round_to_nearest_sum=error.squared_round_to_nearest,
        )


def _made(variant: Variant, done: Done) -> Commit | None:
    """The commit of the variant's own checkpoint, if it has one."""
    return done[variant.made_by.path] if variant.made_by else None


def serving_rows(variant: str, stored: Iterable[Mapping[str, Any]]) -> Iterator[ServingRow]:
    """stored: rows of serving.parquet, where `base` and `plan` are the measurements of base and variant."""
    names = {"base": "base_value", "plan": "variant_value", "plan_batch_size": "variant_batch_size"}
    for row in stored:
        yield ServingRow(variant=variant, **{names.get(name, name): value for name, value in row.items()})


def engine_row(variant: str, facts: Mapping[str, Any]) -> EngineRow:
    """facts: the content of serving.json."""
    gate, kv, memory, engine = (facts[part] for part in ("gate", "kv", "memory", "engine"))
    return EngineRow(
        variant=variant,
        engine=engine["name"],
        engine_version=engine["version"],
        device=engine["device"],
        kv_cache_dtype=kv.get("dtype", "auto"),  # older runs do not state it
        kv_tokens_base=kv["base_tokens"],
        kv_tokens_variant=kv["plan_tokens"],
        kv_predicted_ratio=kv["predicted_ratio"],
        kv_bytes_per_token_base=kv["bytes_per_token_base"],
        kv_bytes_per_token_variant=kv["bytes_per_token_plan"],
        weights_bytes_base=memory["base_weights_bytes"],
        weights_bytes_variant=memory["plan_weights_bytes"],
        peak_bytes_base=memory["base_peak_bytes"],
        peak_bytes_variant=memory["plan_peak_bytes"],
        gate_dtype=gate["dtype"],
        gate_mean=gate["mean_difference"],
        gate_p99=gate["p99_difference"],
        gate_top1_agreement=gate["top1_agreement"],
        gate_tokens=gate["compared_tokens"],
        gate_greedy=gate["greedy_equal"],
    )


def _row_in_16_bits(job: Job, variant: Variant, done: Done) -> VariantRow:
    plan, base, size = variant.plan, job.base_plan, job.size
    num_attn, num_mlp = len(plan.drop_attn) - len(base.drop_attn), len(plan.drop_mlp) - len(base.drop_mlp)
    parameters, kv_bytes = size.kept_parameters(plan.drops), size.kv_bytes_per_token(plan.drops)
    return VariantRow(
        name=variant.name,
        strategy=plan.strategy,
        metric=plan.metric,
        num_dropped=num_attn if "block" in plan.strategy else num_attn + num_mlp,
        drop_attn=plan.drop_attn,
        drop_mlp=plan.drop_mlp,
        parameters=parameters,
        weight_bytes=parameters * size.bytes_per_parameter,
        parameters_saved=size.kept_parameters(base.drops) - parameters,
        kv_bytes_per_token=kv_bytes,
        kv_bytes_saved_per_token=size.kv_bytes_per_token(base.drops) - kv_bytes,
        checkpoint=_checkpoints(job, variant, done) if plan != base else None,
        changes=tuple(change.label for change in variant.changes if not isinstance(change, Drop)),
        refit=next((change.label for change in variant.changes if isinstance(change, Refit)), None),
    )


def _checkpoints(job: Job, variant: Variant, done: Done) -> str | None:
    """Location of an exported checkpoint, or `format: location` for each of several formats."""
    commits = {format: done.get(steps.export_step(variant, format).path) for format in EXPORT_FORMATS}
    paths = {format: job.store.path_of(commit, CHECKPOINT) for format, commit in commits.items() if commit}
    if len(paths) < 2:
        return next(iter(paths.values()), None)
    return ", ".join(f"{format}: {path}" for format, path in paths.items())


def text_rows(job: Job) -> list[TextRow]:
    """What each text of the run consists of, in the order of the config."""
    return [
        TextRow(field, part.found.label, part.share, float(part.part), part.count, part.count * sized.seq_len)
        for field, sized in texts_of(job.config).items()
        for part in sorted(job.text(field).parts, key=lambda part: part.number)
    ]
