"""What is logged of a finished run: names and plain values, the same for every program that keeps experiments."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drop_ray.report.config_fields import config_fields
from drop_ray.report.formatting import dropped_layers
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.serving import SPEEDUP
from drop_ray.report.statistics import standings
from drop_ray.store.identity import json_sha256


@dataclass(frozen=True)
class TrackedVariant:
    """One variant."""

    name: str
    """Its name."""
    parameters: Mapping[str, str]
    """What it is."""
    metrics: Mapping[str, float]
    """What was measured of it: `kl`, `arc_easy/acc`, `arc_easy/acc_stderr`, ..."""


@dataclass(frozen=True)
class Tracked:
    """One run."""

    name: str
    """Its name."""
    parameters: Mapping[str, str]
    """Its configuration, field by field, the model's identity, and versions."""
    variants: tuple[TrackedVariant, ...]
    """Its variants, the base first."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the run's folder that are kept beside: the report and results.csv."""

    @property
    def fingerprint(self) -> str:
        """Hash of all parameters and metrics: what was logged once is not logged again."""
        metrics = {
            one.name: {name: repr(value) for name, value in one.metrics.items()} | dict(one.parameters)
            for one in self.variants
        }
        return json_sha256({"name": self.name, "parameters": dict(self.parameters), "variants": metrics})


def tracked(results: Results, files: Mapping[str, bytes]) -> Tracked:
    """What is logged of a run's results."""
    run = results.run
    parameters = {
        **config_fields(run.config_yaml),
        "model_identity": run.model_identity,
        "num_layers": str(run.num_layers),
        **{f"version.{name}": version for name, version in sorted(run.versions.items())},
    }
    variants = [TrackedVariant(row.name, _parameters(row), dict(_metrics(results, row))) for row in results.variants]
    return Tracked(run.name, parameters, tuple(variants), files)


def _parameters(row: VariantRow) -> dict[str, str]:
    return {
        "strategy": row.strategy,
        "dropped": dropped_layers(row.drop_attn, row.drop_mlp),
        "changes": "-".join(row.changes) or "none",
    }


def _metrics(results: Results, row: VariantRow) -> Iterator[tuple[str, float]]:
    """Every number by a name that begins with its task. Errors follow what they are of; values may be NaN."""
    yield "parameters", float(row.parameters)
    yield "weight_bytes", float(row.weight_bytes)
    yield "kv_bytes_per_token", float(row.kv_bytes_per_token)
    yield "dropped_sublayers", float(row.sublayers_dropped)
    for standing in standings(results):
        if standing.variant is row and standing.average:
            yield from _with_error("average", standing.average.value, standing.average.stderr)
            if standing.paired:
                yield from _with_error("average_difference", standing.paired.value, standing.paired.stderr)
    for found in results.evaluations:
        if found.variant == row.name:
            yield from _with_error(f"{found.task}/{found.metric}", found.value, found.stderr)
    for panel in results.divergences:
        if panel.variant == row.name:
            yield from _with_error("kl", panel.kl, panel.kl_stderr)
            yield "top1_agreement", panel.top1_agreement
    for served in results.serving:
        if (served.variant, served.metric, served.comparison) == (row.name, SPEEDUP, "equal_batch"):
            place = f"speedup/{served.workload} x{served.batch_size}"
            yield place, served.ratio
            yield f"{place}_low", served.low
            yield f"{place}_high", served.high


def _with_error(name: str, value: float, stderr: float | None) -> Iterator[tuple[str, float]]:
    yield name, value
    if stderr is not None and math.isfinite(stderr):
        yield f"{name}_stderr", stderr
