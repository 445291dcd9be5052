"""Calibration by a dataset in a whole run: equal text is equal work, and what was read once is not read again."""

import json
from pathlib import Path

from drop_ray.job import steps
from drop_ray.job.opening import open_job
from drop_ray.pipeline import run
from drop_ray.stages.forecast import forecast_lines


def dataset_of(inputs, folder):
    """The text of the tiny run as a folder of data files."""
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"text": (inputs / "text.txt").read_text()}))
    return {"dataset": str(folder), "num_samples": 20, "seq_len": 32}


def test_a_dataset_with_the_text_of_a_file_shares_its_scores(make_config, inputs, tmp_path):
    from_file = run(make_config(), "score")
    config = make_config(calibration=dataset_of(inputs, tmp_path / "corpus"), plans=[], tasks=())
    outcome = run(config, "report")
    assert outcome.computed == 2  # the samples, under the dataset's own identity, and the text that is evaluated
    assert outcome.scores == from_file.scores
    assert f"{tmp_path}/corpus, train: 20 samples of 32 tokens" in Path(outcome.published.report).read_text()


def test_samples_that_the_store_has_are_not_streamed_again(make_config, inputs, tmp_path, monkeypatch):
    config = make_config(calibration=dataset_of(inputs, tmp_path / "corpus"))
    first = run(config, "score")

    def no_dataset(*args, **kwargs):
        raise AssertionError("the dataset is read again")

    monkeypatch.setattr("datasets.load_dataset", no_dataset)
    assert run(config, "score").found == first.computed
    assert f"{tmp_path}/corpus, train" in next(line for line in forecast_lines(config) if "calibrate" in line)


def test_identities_of_files_are_what_they_were_before_there_were_datasets(make_config, inputs):
    job = open_job(make_config())
    identity = steps.calibration_step(job).identity
    assert {*identity} == {
        *("algorithm", "versions", "model", "source", "text_field", "num_samples", "seq_len", "shuffle_seed")
    }
    assert {*identity["versions"]} == {"transformers", "tokenizers"}
    assert steps.score_step(job, "c", job.base_drops, 1).identity["metrics"] == ["cosine"]
