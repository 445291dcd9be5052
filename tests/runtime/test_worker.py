"""The worker itself, in this process: what an earlier attempt had committed is not computed again."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from checkpoint_forms import upload
from local_run import run_state, start_worker, variant
from tiny_models import token_ids
from tiny_run import config_of

from drop_ray.errors import CorruptArtifactError, WorkerFailedError
from drop_ray.job import steps, texts
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.job.opening import open_job
from drop_ray.job.units import LocalUnit
from drop_ray.models.families import DropLists
from drop_ray.scoring.scorer import Scorer
from drop_ray.stages.calibration import STAGE, calibrate
from drop_ray.stages.driver_tables import commit_table
from drop_ray.stages.evaluate import EvaluationUnit
from drop_ray.stages.export import ExportUnit, export_units
from drop_ray.stages.score_units import ScoreShare, ScoreUnit
from drop_ray.store import Step


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


def test_a_checkpoint_that_is_read_in_place_is_compared_with_its_record(job):
    """One of the exported files has other bytes of the same size, as no look at sizes finds out."""
    (unit,), _ = export_units(job, [variant(job, "a", (1,))])
    worker = start_worker(job)
    (commit,) = unit.run(worker)
    with worker.folder(commit, CHECKPOINT) as folder:
        weights = next(folder.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=f"{weights}: sha256"), worker.folder(commit, CHECKPOINT):
        pass


def test_a_run_with_nothing_to_do_tokenizes_no_text(job, monkeypatch):
    monkeypatch.setattr(texts, "load_texts", lambda job: pytest.fail("tokenized"))
    state = run_state(job)
    done = LocalUnit("a", Step("a", {}), "", lambda: commit_table(job, Step("a", {}), "t", pa.table({"a": [1]})))
    state.complete(STAGE, [done])
    again = run_state(job)
    again.texts = texts.Texts(job)
    (commit,) = again.complete(STAGE, [done])
    assert again.read_table(commit, "t").to_pylist() == [{"a": 1}]
    undone = replace(done, step=Step("b", {}))
    with pytest.raises(pytest.fail.Exception, match="tokenized"):
        again.complete(STAGE, [undone])


def test_a_table_whose_bytes_changed_unseen_is_named_and_made_anew_next_time(job):
    samples = calibrate(state := run_state(job)).committed
    file = Path(job.store.path_of(samples, "calibration.parquet"))
    times, data = file.stat(), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CorruptArtifactError, match=f"{file}: sha256"):
        state.read_table(samples, "calibration.parquet")
    assert job.store.find(samples.step) is None


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
