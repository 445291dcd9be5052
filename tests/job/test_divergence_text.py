"""The text on which predictions are compared: what follows the calibration samples, or one of its own."""

import json

import numpy as np
import pytest
from local_run import run_state, variant
from tiny_run import config_of, write_inputs

from drop_ray.calibration import packing
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.opening import open_job
from drop_ray.job.texts import Texts, load_calibration, load_divergence
from drop_ray.stages.diverge import diverge, shortage

LENGTH = 32


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def job_of(inputs, tmp_path):
    """A job from fields of `evaluation.divergence`, or `default` for a config that does not name it."""

    def job(divergence="default", **fields):
        given = {"evaluation": {}} if divergence == "default" else {"divergence": divergence}
        return open_job(config_of(inputs, tmp_path / "store", **given, **fields))

    return job


def one_sample_text(inputs, tmp_path, samples):
    """A text that is so many samples long: a token a byte, and an EOS at its end."""
    path = tmp_path / "short.txt"
    path.write_text((inputs / "text.txt").read_text()[: samples * LENGTH - 1])
    return {"source": str(path), "num_samples": 20, "seq_len": LENGTH}


def test_it_is_what_follows_the_calibration_samples(job_of, inputs, tmp_path):
    job = job_of()
    longer = open_job(config_of(inputs, tmp_path / "store", calibration={**calibration(inputs), "num_samples": 52}))
    assert np.array_equal(load_divergence(job), load_calibration(longer)[20:])


def calibration(inputs):
    return {"source": str(inputs / "text.txt"), "num_samples": 20, "seq_len": LENGTH}


def test_it_follows_them_in_the_shuffled_order_and_at_another_length(job_of, tmp_path, inputs):
    path = tmp_path / "lines.jsonl"
    words = (inputs / "text.txt").read_text().split()
    path.write_text("\n".join(json.dumps(" ".join(words[start : start + 7])) for start in range(0, 3000, 7)))
    text = {"source": str(path), "num_samples": 4, "seq_len": LENGTH, "shuffle_seed": 3}
    job = job_of({"num_samples": 3, "seq_len": 50}, calibration=text)
    whole = open_job(config_of(inputs, tmp_path / "store", calibration={**text, "num_samples": 20})), 4 * LENGTH
    stream = load_calibration(whole[0]).reshape(-1)[whole[1] :]
    assert np.array_equal(load_divergence(job).reshape(-1), stream[:150])


def test_of_a_dataset_it_is_the_rest_of_the_stream(job_of, inputs, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"text": (inputs / "text.txt").read_text()}))
    job = job_of(calibration={"dataset": str(folder), "num_samples": 20, "seq_len": LENGTH})
    assert np.array_equal(load_divergence(job), load_divergence(job_of()))
    assert "datasets" in steps.divergence_text_step(job).identity["versions"]


def test_of_token_ids_it_is_the_rows_behind_that_are_long_enough(job_of, tmp_path):
    rows = [[number] * (LENGTH - 1 if number == 6 else LENGTH + 2) for number in range(2, 12)]
    (tmp_path / "ids.json").write_text(json.dumps(rows))
    ids = {"token_ids": str(tmp_path / "ids.json"), "num_samples": 3, "seq_len": LENGTH}
    assert load_divergence(job_of({"num_samples": 4}, calibration=ids))[:, 0].tolist() == [5, 7, 8, 9]
    with pytest.raises(
        UserError, match="ids.json, behind the 3 calibration samples, gives 6 samples of 32 tokens, 7 are"
    ):
        load_divergence(job_of({"num_samples": 7}, calibration=ids))


def test_a_source_of_its_own_is_read_from_its_beginning(job_of, inputs):
    source = str(inputs / "text.txt")
    job = job_of({"source": source, "num_samples": 20})
    assert np.array_equal(load_divergence(job), load_calibration(job))
    assert steps.divergence_text_step(job).path != steps.divergence_text_step(job_of({"num_samples": 20})).path


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_default_that_is_too_short_takes_what_there_is_and_says_so(job_of, inputs, tmp_path, left):
    job = job_of(calibration=one_sample_text(inputs, tmp_path, 20 + left))
    assert len(load_divergence(job)) == left
    said = shortage(job, left)
    assert f"short.txt, behind the 20 calibration samples, has {left} of the 32 samples of 32 tokens" in said
    remedy = (
        "the panels are of these 5" if left == 5 else "so no variant has a panel; name a text in evaluation.divergence"
    )
    assert remedy in said


def test_a_default_without_text_compares_nothing(job_of, inputs, tmp_path):
    job = job_of(calibration=one_sample_text(inputs, tmp_path, 20))
    state = run_state(job)  # its cluster refuses all work
    state.texts = Texts(job)
    diverge(state, [variant(job, "a", (1,))])
    assert state.panels == {}
    assert [entry.label for entry in state.ledger.entries] == ["divergence samples"]


@pytest.mark.parametrize("divergence", [{}, {"num_samples": 32}])
def test_too_short_is_an_error_for_a_config_that_names_it(job_of, inputs, tmp_path, divergence):
    text = one_sample_text(inputs, tmp_path, 25)
    job = job_of(divergence, calibration=text)
    expected = (
        "^evaluation.divergence: .*short.txt, behind the 20 calibration samples, gives 5 samples of 32 tokens, 32"
    )
    with pytest.raises(UserError, match=expected):
        dict(Texts(job))
    # Also where a run that did not name it has left what there was.
    default = job_of(calibration=text)
    state = run_state(default)
    state.texts = Texts(default)
    with pytest.raises(AssertionError, match="the cluster was asked for"):
        diverge(state, [variant(default, "a", (1,))])
    with pytest.raises(UserError, match=expected):
        dict(Texts(job))


def test_what_the_store_has_is_not_tokenized_again(job_of, monkeypatch):
    job = job_of()
    state = run_state(job)
    state.texts = Texts(job)
    with pytest.raises(AssertionError, match="the cluster was asked for"):
        diverge(state, [variant(job, "a", (1,))])
    monkeypatch.setattr(packing, "packed_behind", None)
    assert load_divergence(job).shape == (32, LENGTH)


def test_a_damaged_text_is_tokenized_again(job_of, tmp_path):
    job = job_of()
    state = run_state(job)
    state.texts = Texts(job)
    with pytest.raises(AssertionError, match="the cluster was asked for"):
        diverge(state, [variant(job, "a", (1,))])
    (path,) = (tmp_path / "store").glob("artifacts/divergence-text-*/*/calibration.parquet")
    path.write_bytes(b"no table")
    assert load_divergence(job).shape == (32, LENGTH)


def test_null_turns_it_off(job_of):
    job = job_of(None)
    assert not any("divergence" in field for field in Texts(job))
    diverge(run_state(job), [variant(job, "a", (1,))])


def test_calibration_is_what_it_was(job_of):
    """The identities of the samples that are scored do not know of those that follow."""
    with_text, without = job_of(), job_of(None)
    assert steps.calibration_step(with_text) == steps.calibration_step(without)
    assert np.array_equal(load_calibration(with_text), load_calibration(without))


def test_bad_values_name_the_field(job_of, inputs, tmp_path):
    with pytest.raises(UserError, match="evaluation.divergence.seq_len: 300 is more than the model's 256 positions"):
        job_of({"seq_len": 300})
    with pytest.raises(UserError, match=r"evaluation.divergence.source: .*nothing.txt"):
        load_divergence(job_of({"source": str(tmp_path / "nothing.txt")}))
    (tmp_path / "rows.jsonl").write_text('{"other": "a"}')
    with pytest.raises(UserError, match=r"evaluation.divergence.source: .*rows.jsonl: line 1"):
        load_divergence(job_of({"source": str(tmp_path / "rows.jsonl")}))


def test_the_identity_of_a_panel_is_what_decides_it(job_of):
    job = job_of()
    one, other = variant(job, "one", (1,)), variant(job, "other", (1,))
    step = steps.divergence_step(job, one, "text")
    assert step == steps.divergence_step(job, other, "text")
    assert step != steps.divergence_step(job, one, "another text")
    assert step != steps.divergence_step(job, variant(job, "one", (2,)), "text")
    assert step != steps.divergence_step(job_of(scoring={"micro_batch": 3}), one, "text")
    assert step == steps.divergence_step(job_of(execution={"num_workers": 3, "layers": "streamed"}), one, "text")
