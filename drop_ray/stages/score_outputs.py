"""Scores by metrics of the output: every module of a model is left out by itself, and its predictions are compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from drop_ray.job.artifacts import SCORE_SCHEMA
from drop_ray.job.job import Job
from drop_ray.models.families import DropLists
from drop_ray.planning.losses import Losses
from drop_ray.planning.modules import BLOCK, Module, candidates, in_order, present
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.scoring.metrics.metric import OutputMetric, metrics_of
from drop_ray.stages.rounds import less
from drop_ray.store import Commit


@dataclass(frozen=True)
class LeftOut:
    """A module that is left out of a model, or a window of blocks."""

    module: str
    """`attention`, `mlp` or `block`."""
    layer: int
    """Index of its layer, or of the first one of a window."""
    gap: int
    """Number of blocks in the window; 1 for a single module."""
    variant: Variant
    """The model without it, and without what it lacks already."""


@dataclass(frozen=True)
class Outputs:
    """What a score table has of metrics of the output; nothing where all are empty."""

    entries: Sequence[LeftOut]
    """What is left out."""
    commits: Mapping[Variant, Commit]
    """What was measured of each variant among them."""
    metrics: Sequence[str]
    """Names of the metrics."""


def left_out(job: Job, drops: DropLists, gaps: Sequence[int], edited: Variant | None = None) -> list[LeftOut]:
    """Everything that is scored of the model without `drops`: for gap 1 attention, MLPs and blocks, each by layer;
    then the block windows of larger gaps by their first layers.

    edited: that model, if its weights are not the run's model's.
    """
    found, stays = [], {*job.size.layers.needed}
    for gap in sorted(gaps):
        starts = range(job.size.num_layers - gap + 1)
        modules = (
            [module for of in ("attention", "mlp", BLOCK) for module in candidates(of, job.size.layers, drops)]
            if gap == 1
            else [Module(BLOCK, layer) for layer in starts if not stays.intersection(range(layer, layer + gap))]
        )
        found += [_left_out(job, drops, module, gap, edited) for module in modules]
    return found


def _left_out(job: Job, drops: DropLists, module: Module, gap: int, edited: Variant | None) -> LeftOut:
    whole = [Module(module.kind, layer) for layer in range(module.layer, module.layer + gap)]
    gone = present(whole, job.size.layers)
    if edited is not None:
        return LeftOut(module.kind, module.layer, gap, less(edited, gone))
    place = f"{module.kind} {module.layer}" if gap == 1 else f"blocks {module.layer} to {module.layer + gap - 1}"
    name = f"{job.state_name(drops)} minus {place}"
    plan = DropPlan(name, *in_order(drops, gone))
    return LeftOut(module.kind, module.layer, gap, variant_of(job.checkpoint.identity, plan))


def output_rows(entries: Sequence[LeftOut], losses: Mapping[Variant, Losses], metrics: Sequence[str]) -> pa.Table:
    """Score rows, one of each sample, module and metric, in the order of `entries`.

    losses: of every variant among them; metrics: names of metrics of the output.
    """
    return pa.Table.from_pylist(list(_rows(entries, losses, metrics)), SCORE_SCHEMA)


def _rows(
    entries: Sequence[LeftOut], losses: Mapping[Variant, Losses], metrics: Sequence[str]
) -> Iterator[dict[str, object]]:
    for name, metric in metrics_of(metrics, OutputMetric).items():
        for entry in entries:
            for sample, loss in losses[entry.variant].items() if entry.module in metric.modules else ():
                yield {
                    "sample": sample,
                    "layer": entry.layer,
                    "gap": entry.gap,
                    "module": entry.module,
                    "metric": name,
                    "total": metric.total(loss),
                    "tokens": loss.tokens,
                }
