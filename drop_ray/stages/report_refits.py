"""Makes rows of the report from what refitting has committed."""

import math
from collections.abc import Iterator, Mapping

from drop_ray.config import refit_field
from drop_ray.evaluation.estimates import paired_difference
from drop_ray.job.artifacts import HELD_OUT, REFIT
from drop_ray.job.job import Job
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.store.tables import read_table


def refit_rows(job: Job, variant: Variant) -> Iterator[RefitRow]:
    """One row of a variant whose last change is a refit; none of others."""
    change = _last_refit(variant)
    if change is None or change.made is None:
        return
    fits, samples = (read_table(job.store, change.made, name).to_pylist() for name in (REFIT, HELD_OUT))
    spec = change.spec
    text = spec.text or job.config.calibration
    fitted, _ = spec.split(text.num_samples)
    before, after = (_by_sample(samples, column) for column in ("kl_dropped", "kl_refitted"))
    pair = paired_difference(after, before)
    assert pair is not None, "at least two samples are held out"
    yield RefitRow(
        variant=variant.name,
        of=variant.before.name,
        ridge=str(spec.ridge),
        text=job.text(refit_field(spec.label)).label if spec.text else "the calibration text",
        samples=len(fitted),
        tokens=len(fitted) * text.seq_len,
        projections=len(fits),
        held_out=len(samples),
        kl_dropped=math.fsum(before.values()) / len(before),
        kl_refitted=math.fsum(after.values()) / len(after),
        difference=pair.value,
        stderr=pair.stderr,
    )


def refit_error_rows(job: Job, variant: Variant) -> Iterator[RefitErrorRow]:
    """A row of every sub-layer that was refitted."""
    change = _last_refit(variant)
    if change is None or change.made is None:
        return
    for stored in read_table(job.store, change.made, REFIT).to_pylist():
        del stored["tokens"]
        yield RefitErrorRow(variant=variant.name, **stored)


def _last_refit(variant: Variant) -> Refit | None:
    last = variant.changes[-1] if variant.changes else None
    return last if isinstance(last, Refit) else None


def _by_sample(rows: list[Mapping[str, float]], column: str) -> dict[int, float]:
    return {int(row["sample"]): row[column] for row in rows}
