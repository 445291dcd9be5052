"""The checkpoints that a run writes: every plan that it exports, in every format that it asks for and the plan has."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.job import Job
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.plain import plain_form
from drop_ray.planning.plans import DropPlan
from drop_ray.store import Step


@dataclass(frozen=True)
class Export:
    plan: DropPlan
    format: ExportFormat
    step: Step

    @property
    def label(self) -> str:
        """For people: `block-4`, `block-4 (plain)`."""
        return self.plan.name if self.format == "dropped" else f"{self.plan.name} ({self.format})"


def is_exported(job: Job, plan: str) -> bool:
    return job.config.export == "all" or plan in job.config.export


def exports_of(job: Job, plans: Sequence[DropPlan]) -> tuple[list[Export], dict[str, list[str]]]:
    """What `export` and `export_formats` of the config ask for, and the plans without a plain form, by reason."""
    exports: list[Export] = []
    refused: dict[str, list[str]] = {}
    for plan in plans:
        for format in _formats_of(job, plan):
            if format == "plain" and (reason := _plain_refusal(job, plan)):
                refused.setdefault(reason, []).append(plan.name)
            else:
                exports.append(Export(plan, format, steps.export_step(job, plan.drops, format)))
    return exports, refused


def export_provenance(job: Job, plan: DropPlan) -> dict[str, str]:
    """What a checkpoint's config.json says of its origin."""
    return {"strategy": plan.strategy, "base": job.checkpoint.identity}


def _formats_of(job: Job, plan: DropPlan) -> Sequence[ExportFormat]:
    """`plain` is for whole blocks: with other formats beside it, nobody expects it of an attention plan."""
    formats = job.config.export_formats if is_exported(job, plan.name) else ()
    is_whole = plan.drops.attn == plan.drops.mlp
    return formats if is_whole or len(formats) == 1 else [format for format in formats if format != "plain"]


def _plain_refusal(job: Job, plan: DropPlan) -> str | None:
    try:
        plain_form(job.checkpoint, plan.drops)
    except UserError as error:
        return str(error)
    return None
