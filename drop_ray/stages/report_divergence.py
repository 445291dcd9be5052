"""Makes rows of the report from divergence panels and what they are made of."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from drop_ray.calibration import packing
from drop_ray.job import steps, texts
from drop_ray.job.artifacts import DIVERGENCE, SAMPLES
from drop_ray.job.run_state import RunState
from drop_ray.planning.variants import Variant
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.stages.diverge import shortage
from drop_ray.store import Commit
from drop_ray.store.filesystem import READS_AT_ONCE


def compared_samples(run: RunState, done: Mapping[str, Commit]) -> packing.Samples | None:
    """The samples on which variants were compared with the base; None where none were."""
    if run.job.config.evaluation.divergence is None:
        return None
    text = done.get(steps.divergence_text_step(run.job).path)
    return packing.from_table(run.read_table(text, SAMPLES)) if text else None


def divergence_results(run: RunState, variants: Sequence[Variant], done: Mapping[str, Commit]) -> dict[str, Any]:
    """The fields of Results about divergence. A panel that equal variants share appears under each of their names."""
    job, samples = run.job, compared_samples(run, done)
    if samples is None:
        return {}
    identity = packing.token_identity(samples)
    paths = {variant.name: steps.divergence_step(job, variant, identity).path for variant in variants}
    named = [(name, done[path]) for name, path in paths.items() if path in done and name in run.panels]
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="divergences") as readers:
        tables = list(readers.map(lambda pair: run.read_table(pair[1], DIVERGENCE).to_pylist(), named))
    return {
        "divergences": [DivergenceRow(**asdict(run.panels[name]), variant=name) for name, _ in named],
        "divergence_samples": [
            row for (name, _), stored in zip(named, tables, strict=True) for row in _sample_rows(name, stored)
        ],
        "divergence_text": DivergenceText(
            texts.divergence_source(job).rstrip(","),
            len(samples),
            texts.divergence_length(job),
            shortage(job, len(samples)),
        ),
    }


def _sample_rows(variant: str, stored: Sequence[Mapping[str, Any]]) -> Iterator[DivergenceSampleRow]:
    """stored: rows of divergence.parquet, which has sums over tokens."""
    for row in stored:
        tokens = row["tokens"]
        yield DivergenceSampleRow(
            variant=variant,
            sample=row["sample"],
            tokens=tokens,
            kl=row["kl"] / tokens,
            base_nll=row["base_nll"] / tokens,
            variant_nll=row["variant_nll"] / tokens,
            top1_agreement=row["agreed"] / tokens,
            acceptance=row["acceptance"] / tokens,
        )
