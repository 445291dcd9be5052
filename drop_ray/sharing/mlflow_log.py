"""Logs a run to MLflow: a run with its parameters and files, and below it a run for every variant with its metrics.

So MLflow's table has a line for every variant, and a column for every metric. Only its client is used, which keeps no
state in the process; for a server or a folder mlflow-skinny has all of it.
"""

import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drop_ray.config.tracking import MlflowSpec
from drop_ray.sharing.tracked import Tracked, TrackedVariant

NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
"""What MLflow refuses in names of parameters and metrics."""
LONGEST = 6000
"""Characters of a parameter's value, of which servers take no more."""
PARAMETERS_A_CALL, METRICS_A_CALL = 100, 1000
"""What one call of `log_batch` takes at most."""
RESULTS = "drop_ray.results"
"""Tag that has the hash of what was logged."""
# MLflow 3 refuses folders unless it is told, says after minutes that a server is not there, and prints every run.
DEFAULTS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def log_to_mlflow(spec: MlflowSpec, run: Tracked) -> str:
    """Log the run, unless it is there with the same results; returns where it is."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=spec.uri)
    found = client.get_experiment_by_name(spec.experiment)
    experiment = found.experiment_id if found else client.create_experiment(spec.experiment)
    query = f"tags.`{RESULTS}` = '{run.fingerprint}' and attributes.status = 'FINISHED'"
    same = client.search_runs([experiment], query, ViewType.ACTIVE_ONLY, max_results=1)
    if same:
        return f"run {same[0].info.run_id} of {spec.experiment} at {spec.uri}, which was there already"
    parent = _start(client, experiment, run.name, {})
    try:
        _log(client, parent, run.parameters, {})
        for variant in run.variants:
            _log_variant(client, experiment, parent, variant)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in run.files.items():
                (Path(folder) / name).write_bytes(data)
            client.log_artifacts(parent, folder)
        client.set_tag(parent, RESULTS, run.fingerprint)
    except BaseException:
        client.set_terminated(parent, "FAILED")
        raise
    client.set_terminated(parent, "FINISHED")
    return f"run {parent} of {spec.experiment} at {spec.uri}"


def _log_variant(client: Any, experiment: str, parent: str, variant: TrackedVariant) -> None:
    child = _start(client, experiment, variant.name, {"mlflow.parentRunId": parent})
    _log(client, child, variant.parameters, variant.metrics)
    client.set_terminated(child, "FINISHED")


def _start(client: Any, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    started: str = client.create_run(experiment, run_name=name, tags={"drop_ray.name": name, **tags}).info.run_id
    return started


def _log(client: Any, run_id: str, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    params = [Param(mlflow_name(name), value[:LONGEST]) for name, value in parameters.items()]
    for start in range(0, len(params), PARAMETERS_A_CALL):
        client.log_batch(run_id, params=params[start : start + PARAMETERS_A_CALL])
    numbers = [Metric(mlflow_name(name), value, now, 0) for name, value in metrics.items()]
    for start in range(0, len(numbers), METRICS_A_CALL):
        client.log_batch(run_id, metrics=numbers[start : start + METRICS_A_CALL])


def mlflow_name(name: str) -> str:
    """A name with what MLflow refuses replaced: `plans[0].drop` is `plans.0.drop`."""
    return NOT_IN_NAMES.sub("_", re.sub(r"\[(\d+)\]", r".\1", name))
