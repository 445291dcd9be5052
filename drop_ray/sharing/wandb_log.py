"""Logs a run to Weights & Biases: one run, whose summary has every metric as `variant/metric`, with the report to read.

Its results are a table, too, for charts over variants, and the files an artifact.
"""

from typing import Any

from drop_ray.config.tracking import WandbSpec
from drop_ray.errors import UserError
from drop_ray.sharing.tracked import Tracked

REPORT = "report.html"


def log_to_wandb(spec: WandbSpec, run: Tracked) -> str:
    """Log the run; returns where it is. The same results are the same run there, which is then logged over.

    UserError if there is no key: it would be asked for at the terminal.
    """
    import wandb

    if spec.mode == "online":
        _check_key(wandb)
    started: Any = wandb.init(
        project=spec.project,
        entity=spec.entity,
        name=run.name,
        id=run.fingerprint[:16],
        resume="allow",
        config=dict(run.parameters),
        mode=spec.mode,
        dir=spec.folder,
        job_type="drop-ray",
        settings=wandb.Settings(console="off", silent=True),
    )
    failed = True
    try:
        for name, value in wandb_summary(run).items():
            started.summary[name] = value
        names = dict.fromkeys(name for one in run.variants for name in one.metrics)
        table = wandb.Table(columns=["variant", "strategy", "dropped", "changes", *names])
        for one in run.variants:
            facts = (one.parameters[name] for name in ("strategy", "dropped", "changes"))
            table.add_data(one.name, *facts, *(one.metrics.get(name) for name in names))
        logged: dict[str, Any] = {"variants": table}
        if REPORT in run.files:
            logged["report"] = wandb.Html(run.files[REPORT].decode(), inject=False)
        started.log(logged)
        artifact = wandb.Artifact(f"report-{run.fingerprint[:16]}", type="report")
        for name, data in run.files.items():
            with artifact.new_file(name, mode="wb") as file:
                file.write(data)
        started.log_artifact(artifact)
        failed = False
    finally:
        started.finish(exit_code=int(failed))
    return f"{started.url}" if spec.mode == "online" else f"{started.dir}, for `wandb sync`"


def _check_key(wandb: Any) -> None:
    try:
        key = wandb.Api().api_key
    except wandb.Error:
        key = None
    if not key:
        raise UserError("there is no key: set WANDB_API_KEY, run `wandb login`, or take `mode: offline`")


def wandb_summary(run: Tracked) -> dict[str, float]:
    """Every metric by variant."""
    return {f"{one.name}/{name}": value for one in run.variants for name, value in one.metrics.items()}
