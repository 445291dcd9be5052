"""The worker itself, in this process: what an earlier attempt had committed is not computed again."""

import os

import pytest
from checkpoint_forms import upload
from local_run import run_state, start_worker, variant
from tiny_models import token_ids
from tiny_run import config_of

from drop_ray.errors import WorkerFailedError
from drop_ray.job import steps
from drop_ray.job.opening import open_job
from drop_ray.models.families import DropLists
from drop_ray.scoring.scorer import Scorer
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.evaluate import EvaluationUnit
from drop_ray.stages.export import ExportUnit, export_units
from drop_ray.stages.score_units import ScoreShare, ScoreUnit


@pytest.fixture
def job(inputs, tmp_path):
    return open_job(config_of(inputs, tmp_path / "store", export="all", export_formats=["dropped"]))


def test_a_requeued_share_scores_only_what_is_missing(job, monkeypatch):
    samples = calibrate(run_state(job))
    table = steps.score_step(job, samples.identity, DropLists(), 1)
    units = [
        ScoreUnit(str(part), steps.score_unit(table, part), "score", samples.commit, part, 1, DropLists(), None)
        for part in steps.sample_ranges(job)[:3]
    ]
    worker = start_worker(job)
    first = ScoreShare(tuple(units[:2]), True, 32).run(worker)
    swept = []
    score = Scorer.score

    def watched(self, token_ids, ranges, *rest):
        swept.extend(ranges)
        return score(self, token_ids, ranges, *rest)

    monkeypatch.setattr(Scorer, "score", watched)
    again = ScoreShare(tuple(units), True, 32).run(worker)
    assert swept == [units[2].samples]
    assert [commit.step.path for commit in again] == [unit.step.path for unit in units]
    assert again[:2] == first


def test_a_unit_that_is_done_is_answered_with_its_commit(job):
    (unit,), _ = export_units(job, [variant(job, "a", (1,))])
    worker = start_worker(job)
    assert unit.run(worker) == unit.run(worker)
    assert len(job.store.list(unit.step.path)) == 2  # one attempt and its record


def test_a_worker_with_another_model_says_so(job):
    with pytest.raises(WorkerFailedError, match="is not the model that the driver has"):
        start_worker(job, model_identity="0" * 64)


def test_a_worker_reads_a_model_from_s3_with_the_runs_options(job, inputs, tmp_path, s3_server, s3_url, monkeypatch):
    upload(inputs / "model", s3_url)
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    options = {"endpoint_url": s3_server.url, "key": "test", "secret": "test"}
    model, execution = {"path": s3_url, "dtype": "float32"}, {"store_options": options}
    remote = open_job(config_of(inputs, tmp_path / "store", model=model, execution=execution))
    plan = variant(remote, "a", (1,))
    spec = remote.config.evaluation.perplexity[0]
    step = steps.perplexity_step(remote, plan, spec)
    text = EvaluationUnit("text", step, "evaluate text", plan, "text", token_ids=token_ids(2, 8))
    export = ExportUnit("a", steps.export_step(plan), "export", plan, "dropped", {})
    worker = start_worker(remote)
    assert len([*text.run(worker), *export.run(worker)]) == 2
    # It is the model of the folder: what is done of the one is done of the other.
    assert job.store.find(steps.export_step(variant(job, "b", (1,)))) is not None
    assert job.store.find(steps.perplexity_step(job, plan, spec)) is not None
