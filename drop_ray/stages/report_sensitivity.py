"""Makes rows of the report from what plans would be by other calibration texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from drop_ray.calibration import packing
from drop_ray.config.compared_text import OWN
from drop_ray.evaluation.divergence.panel import Panel, kl_difference
from drop_ray.job import steps
from drop_ray.job.artifacts import DIVERGENCE
from drop_ray.job.run_state import RunState
from drop_ray.planning.sensitivity import shared
from drop_ray.planning.variants import Variant
from drop_ray.report.sensitivity_rows import AgreementRow, SensitivityRow
from drop_ray.stages.diverge import read_panel
from drop_ray.stages.report_divergence import compared_samples
from drop_ray.store import Commit


@dataclass(frozen=True)
class _Compared:
    """How far a variant is from the base."""

    panel: Panel
    """Statistics over the text."""
    kl: Mapping[int, float]
    """Mean KL per token, by sample."""


def sensitivity_rows(run: RunState, done: Mapping[str, Commit]) -> list[SensitivityRow]:
    """A row for each plan and text, those of a plan together; done: commits by the paths of their steps."""
    own = {one.plan: one.variant for one in run.compared if one.text == OWN}
    found = _compared(run, done)
    rows = []
    for one in run.compared:
        variant, itself = one.variant, own[one.plan]
        measured, reference = found.get(variant), found.get(itself)
        pair = kl_difference(measured.kl, reference.kl) if measured and reference and one.text != OWN else None
        rows.append(
            SensitivityRow(
                plan=one.plan,
                text=one.text,
                num_samples=one.num_samples,
                drop_attn=variant.plan.drop_attn,
                drop_mlp=variant.plan.drop_mlp,
                overlap=shared(variant.drops, itself.drops, run.job.base_drops),
                kl=measured.panel.kl if measured else None,
                kl_stderr=measured.panel.kl_stderr if measured else None,
                difference=pair.value if pair else None,
                difference_stderr=pair.stderr if pair else None,
            )
        )
    return rows


def agreement_rows(run: RunState) -> list[AgreementRow]:
    """A row for each plan and pair of texts."""
    return [
        AgreementRow(
            plan=found.plan,
            text=found.one.text,
            num_samples=found.one.num_samples,
            other_text=found.other.text,
            other_num_samples=found.other.num_samples,
            tau=found.tau,
            overlap=found.overlap,
        )
        for found in run.agreements
    ]


def _compared(run: RunState, done: Mapping[str, Commit]) -> dict[Variant, _Compared]:
    """What is known of each variant that was compared with the base. Variants that drop the same are one."""
    job, samples = run.job, compared_samples(run, done)
    if samples is None:
        return {}
    identity = packing.token_identity(samples)
    found: dict[Variant, _Compared] = {}
    for variant in dict.fromkeys(one.variant for one in run.compared):
        commit = done.get(steps.divergence_step(job, variant, identity).path)
        if commit is not None:
            rows = run.read_table(commit, DIVERGENCE).to_pylist()
            kl = {row["sample"]: row["kl"] / row["tokens"] for row in rows}
            found[variant] = _Compared(read_panel(job, commit), kl)
    return found
