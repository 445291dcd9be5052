"""From plans and what the store has of them to the report's rows of plans, in 16 bits and quantized."""

from collections.abc import Mapping
from dataclasses import replace

from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT, RECONSTRUCTION
from drop_ray.job.job import Job
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.planning.variants import Variant
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.reconstruction import LayerError
from drop_ray.report.results import LayerErrorRow, PlanRow, Quantization
from drop_ray.store import Commit
from drop_ray.store.tables import read_table


def plan_row(job: Job, variant: Variant, done: Mapping[str, Commit]) -> PlanRow:
    """The row of a plan; of a quantized one, with the plan's own sizes but for the bytes of its weights."""
    row, remake = replace(_row_in_16_bits(job, variant, done), name=variant.name), variant.remake
    if remake is None:
        return row
    assert isinstance(remake, Quantize)
    commit, spec = done[remake.step(variant.before).path], remake.spec
    errors = (LayerError(**error) for error in read_table(job.store, commit, RECONSTRUCTION).to_pylist())
    return replace(
        row,
        checkpoint=job.store.path_of(commit, CHECKPOINT),
        weight_bytes=sum(output.size for name, output in commit.outputs.items() if name.endswith(".safetensors")),
        quantization=Quantization(
            of=variant.plan.name,
            method=spec.method,
            label=spec.label,
            bits=spec.bits,
            group_size=spec.group_size,
            symmetric=spec.is_symmetric,
            desc_act=spec.desc_act,
            errors=tuple(
                LayerErrorRow(
                    layer=error.layer,
                    module=error.module,
                    error=error.method,
                    round_to_nearest=error.round_to_nearest,
                    error_sum=error.squared_method,
                    round_to_nearest_sum=error.squared_round_to_nearest,
                )
                for error in errors
            ),
        ),
    )


def _row_in_16_bits(job: Job, variant: Variant, done: Mapping[str, Commit]) -> PlanRow:
    plan, base, size = variant.plan, job.base_plan, job.size
    num_attn, num_mlp = len(plan.drop_attn) - len(base.drop_attn), len(plan.drop_mlp) - len(base.drop_mlp)
    parameters, kv_bytes = size.kept_parameters(plan.drops), size.kv_bytes_per_token(plan.drops)
    return PlanRow(
        name=plan.name,
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
    )


def _checkpoints(job: Job, variant: Variant, done: Mapping[str, Commit]) -> str | None:
    """Where a plan was exported to: the path, or `format: path` for each of several formats."""
    commits = {format: done.get(steps.export_step(variant, format).path) for format in EXPORT_FORMATS}
    paths = {format: job.store.path_of(commit, CHECKPOINT) for format, commit in commits.items() if commit}
    if len(paths) < 2:
        return next(iter(paths.values()), None)
    return ", ".join(f"{format}: {path}" for format, path in paths.items())
