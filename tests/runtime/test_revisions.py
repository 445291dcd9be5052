"""model.revisions: a score table for each training checkpoint, shared with runs of that checkpoint alone."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_models
from local_run import run_state, start_worker
from tiny_run import config_of

from drop_ray.commands.summary import outcome_lines
from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.job import steps
from drop_ray.job.ledger import read_manifest
from drop_ray.job.opening import open_job
from drop_ray.job.status import run_status
from drop_ray.models.location import locate_model
from drop_ray.pipeline import run
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.forecast import forecast_lines
from drop_ray.stages.score_units import ScoreUnit
from drop_ray.store import open_store

REVISIONS = ["step1", "step2", "main"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Three training checkpoints, a fourth with the weights of the first, and token ids to calibrate on."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, revision in enumerate(REVISIONS):
        tiny_models.write_checkpoint(folder / revision, num_layers=4, seed=seed)
    shutil.copytree(folder / "step1", folder / "again")
    (folder / "ids.json").write_text(json.dumps(tiny_models.token_ids(6, 32).tolist()))
    return folder


@pytest.fixture
def config(checkpoints, inputs, tmp_path):
    def make(store="store", **model):
        ids = {"token_ids": str(checkpoints / "ids.json"), "num_samples": 6, "seq_len": 32}
        model = {"path": str(checkpoints), "dtype": "float32", **model}
        return config_of(inputs, tmp_path / store, model=model, calibration=ids, evaluation={"divergence": None})

    return make


def score_tables(config):
    """Bytes of the run's joined score tables, by label; all of them must be there."""
    store = open_store(config.store)
    units = read_manifest(store, f"runs/{config.name}")
    return {label: store.find(step).checksum for _, label, step in units if step.name == "score"}


def test_every_checkpoint_is_scored_once_and_its_table_shared(config, local_ray):
    together = config(revisions=REVISIONS)
    planned = "\n".join(forecast_lines(together))
    assert all(f"score revision {revision}" in planned for revision in REVISIONS)
    outcome = run(together)
    assert list(outcome.training) == REVISIONS
    assert len({str(tables) for tables in outcome.training.values()}) == len(REVISIONS)
    lines = list(outcome_lines(outcome))
    assert all(any(line.startswith(f"{revision} ") for line in lines) for revision in REVISIONS)
    status = "\n".join(run_status(together, ["score", "plan"]).lines())
    assert all(f"revision {revision}, samples 2 to 3" in status for revision in REVISIONS)
    report = Path(outcome.published.report).read_text()
    assert 'id="training-0-attention"' in report
    assert f"{together.model.path} at main" in report

    tables = score_tables(together)
    for revision in REVISIONS:
        alone = config(revision=revision)
        assert run(alone, "score").computed == 0
        assert score_tables(alone) == {"scores base, gap 1": tables[f"scores revision {revision}, gap 1"]}

    elsewhere = config(store="elsewhere", revision="step1")
    run(elsewhere, "score")
    assert score_tables(elsewhere) == {"scores base, gap 1": tables["scores revision step1, gap 1"]}

    # Equal weights under another name, and another order: nothing to compute, and shown under each name.
    again = run(config(revisions=["main", "again", "step2", "step1"]))
    assert again.computed == 0
    assert again.training["again"] == again.training["step1"] == outcome.training["step1"]


def test_the_revision_of_a_folder_or_url_is_a_subfolder(checkpoints):
    assert locate_model(str(checkpoints), "step1") == str(checkpoints / "step1")
    assert locate_model("s3://bucket/runs/", "step1") == "s3://bucket/runs/step1"
    with pytest.raises(UserError, match="no subfolder step9"):
        locate_model(str(checkpoints), "step9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 3}, "model.revisions: other has num_hidden_layers 3, main has 4; name training checkpoints"),
        ({"hidden_size": 64}, "model.revisions: other has hidden_size 64, main has 32"),
        ({"vocab_size": 310}, "model.revisions: other has vocab_size 310, main has 300"),
        ({"config.json": {"num_hidden_layers": 3}}, "model.revisions: other: .* have no place in the model"),
        (
            {"config.json": {"drop_attn_list": [1]}},
            "model.revisions: other has drop lists .* name training checkpoints",
        ),
        (None, "model.revisions: other: .* no subfolder other"),
    ],
)
def test_checkpoints_that_cannot_be_compared_are_refused(config, checkpoints, tmp_path, change, message):
    folder = tmp_path / "checkpoints"
    shutil.copytree(checkpoints / "main", folder / "main")
    if change is not None:
        edits = change.pop("config.json", {})
        tiny_models.write_checkpoint(folder / "other", **{"num_layers": 4, **change})
        tiny_models.edit_json(folder / "other" / "config.json", **edits)
    with pytest.raises(UserError, match=message):
        open_job(config(path=str(folder), revisions=["other", "main"]))


def test_a_worker_checks_each_checkpoint_when_it_meets_it(config):
    job = open_job(config(revisions=REVISIONS))
    worker = start_worker(job, earlier_identities={"step1": "0" * 64})
    samples = calibrate(run_state(job))
    table = steps.score_step(job, samples.identity, job.base_drops, 1, "step1")
    step = steps.score_unit(table, range(2))
    unit = ScoreUnit("first", step, "score", samples.commit, range(2), 1, job.base_drops, "step1")
    with pytest.raises(WorkerFailedError, match="at step1 on .* is not the model that the driver has"):
        unit.run(worker)
