"""The worker itself, in this process: what an earlier attempt had committed is not computed again."""

import os

import pytest
from checkpoint_forms import upload
from tiny_models import token_ids
from tiny_run import config_of

from drop_ray.errors import WorkerFailedError
from drop_ray.job import steps
from drop_ray.job.job import open_job
from drop_ray.job.ledger import Ledger
from drop_ray.models.families import DropLists
from drop_ray.pipeline import calibrate
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import Variant
from drop_ray.runtime.units import EvaluationUnit, ExportUnit, ScoreUnits, WorkerSetup
from drop_ray.runtime.worker import Worker
from drop_ray.scoring.scorer import Scorer


@pytest.fixture
def job(inputs, tmp_path):
    return open_job(config_of(inputs, tmp_path / "store"))


def start_worker(job, model_identity=None):
    config = job.config
    identity = model_identity or job.checkpoint.identity
    setup = WorkerSetup(
        config.model,
        identity,
        job.store,
        config.scoring,
        config.evaluation,
        job.include_path,
        1,
        1 << 20,
        model_options=config.s3_options(config.model.path),
    )
    worker = Worker(setup)
    worker.start()
    return worker


def test_a_requeued_share_scores_only_what_is_missing(job, monkeypatch):
    samples = calibrate(job, Ledger(job.store, job.run_folder))
    table = steps.score_step(job, samples.identity, DropLists(), 1)
    parts = [(part, {1: steps.score_unit(table, part)}) for part in steps.sample_ranges(job)[:3]]
    worker = start_worker(job)
    first = worker.run(ScoreUnits(samples.commit, DropLists(), True, tuple(parts[:2])))
    swept = []
    score = Scorer.score

    def watched(self, token_ids, ranges, *rest):
        swept.extend(ranges)
        return score(self, token_ids, ranges, *rest)

    monkeypatch.setattr(Scorer, "score", watched)
    again = worker.run(ScoreUnits(samples.commit, DropLists(), True, tuple(parts)))
    assert swept == [parts[2][0]]
    assert [commit.step.path for commit in again] == [steps_of_part[1].path for _, steps_of_part in parts]
    assert again[:2] == first


def test_a_unit_that_is_done_is_answered_with_its_commit(job):
    drops = DropLists((1,), ())
    unit = ExportUnit(steps.export_step(job, drops), drops, "dropped", {"strategy": "test"})
    worker = start_worker(job)
    assert worker.run(unit) == worker.run(unit)
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
    plan = Variant(DropPlan("a", (1,)))
    drops = plan.drops
    spec = remote.config.evaluation.perplexity[0]
    text = EvaluationUnit(steps.perplexity_step(remote, plan, spec), drops, "text", token_ids=token_ids(2, 8))
    export = ExportUnit(steps.export_step(remote, drops), drops, "dropped", {})
    worker = start_worker(remote)
    assert len([*worker.run(text), *worker.run(export)]) == 2
    # It is the model of the folder: what is done of the one is done of the other.
    assert job.store.find(steps.export_step(job, drops)) is not None
    assert job.store.find(steps.perplexity_step(job, plan, spec)) is not None
