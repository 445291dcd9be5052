"""`drop-ray export --plan P --output DIR`: one checkpoint into a folder of the user's, without Ray."""

import logging
from pathlib import Path

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.job.job import Job, open_job
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import ExportFormat
from drop_ray.pipeline import run
from drop_ray.planning.plans import DropPlan, read_plan
from drop_ray.stages.exports import export_provenance
from drop_ray.text.units import human_bytes

logger = logging.getLogger(__name__)


def export_plan(config: RunConfig, plan: str, output: Path, format: ExportFormat) -> None:
    """plan: the name of one of the run's plans (scored first if need be), or a plan file."""
    job = open_job(config)
    chosen = _find(config, job, plan)
    export_checkpoint(
        job.checkpoint,
        chosen.drops,
        output,
        format=format,
        provenance=export_provenance(job, chosen),
        progress=lambda done, total: logger.info("export: %s of %s", human_bytes(done), human_bytes(total)),
    )


def _find(config: RunConfig, job: Job, name: str) -> DropPlan:
    if Path(name).is_file():
        return read_plan(Path(name), job.size.num_layers, job.checkpoint.identity)
    known = [request.name for request in job.requests] + [given.name for given in job.given_plans]
    if name not in known:
        raise UserError(f"--plan {name}: no such file, and no plan of the run; its plans: {', '.join(known) or 'none'}")
    return next(made for made in run(config, "plan").plans if made.name == name)
