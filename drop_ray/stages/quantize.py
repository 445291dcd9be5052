"""The stage quantize: a checkpoint of the base and of every plan, by each method of the config."""

from collections.abc import Mapping, Sequence

import torch

from drop_ray.config import quantization_field
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.planning.variants import Variant, distinct
from drop_ray.runtime import dispatch
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.units import QuantizationUnit
from drop_ray.stages.exports import export_provenance
from drop_ray.stages.score import Calibration
from drop_ray.store import Commit


def quantize(
    job: Job,
    cluster: Cluster,
    ledger: Ledger,
    variants: Sequence[Variant],
    samples: Calibration,
    texts: Mapping[str, torch.Tensor],
) -> dict[str, str]:
    """A checkpoint of every quantized variant; returns where they are."""
    units = {
        variant.name: (variant, spec, steps.quantize_step(job, variant.drops, spec))
        for variant in distinct(variants)
        if (spec := variant.spec)
    }
    pending = ledger.pending("quantize", {label: step for label, (_, _, step) in units.items()})
    if pending:
        work = {
            label: QuantizationUnit(
                step,
                variant.drops,
                spec,
                texts[quantization_field(spec.label)] if spec.text else samples.commit,
                export_provenance(job, variant.plan),
            )
            for label, (variant, spec, step) in units.items()
            if label in pending
        }
        for commit in dispatch.quantize(cluster, job, work):
            ledger.add(commit)
    return {label: job.store.path_of(ledger.commit_of(step), CHECKPOINT) for label, (_, _, step) in units.items()}


def quantized_commit(job: Job, ledger: Ledger, variant: Variant) -> Commit | None:
    """Of a variant's checkpoint; None of one in 16 bits."""
    return ledger.commit_of(steps.quantize_step(job, variant.drops, variant.spec)) if variant.spec else None
