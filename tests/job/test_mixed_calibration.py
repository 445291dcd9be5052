"""A calibration text that is mixed from several: its composition, its identity, and what follows it."""

import json

import numpy as np
import pytest
from local_run import run_stages, run_state
from tiny_run import config_of, config_values, write_inputs

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.file_hash import file_sha256
from drop_ray.job.opening import open_job
from drop_ray.job.texts import load_calibration, load_divergence
from drop_ray.models.location import load_tokenizer
from drop_ray.report.markdown import render_markdown
from drop_ray.stages.calibration import calibrate
from drop_ray.stages.diverge import shortage
from drop_ray.stages.report import collect

LENGTH = 32
SERVING = {"engine": "transformers", "workloads": [{"prompt": 4, "output": 4}]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three texts in different letters, which the tokenizer keeps apart: a token a byte."""
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    for letter, size in (("a", 6000), ("b", 6000)):
        (folder / f"{letter}.txt").write_text(letter * size)
    (folder / "corpus").mkdir()
    rows = [{"words": "c" * (20 + number)} for number in range(100)]
    (folder / "corpus" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def job_of(inputs, tmp_path):
    def job(sources=None, divergence=None, **fields):
        text = {"num_samples": 20, "seq_len": LENGTH, **fields}
        given = {"sources": [of(inputs, *one) for one in sources]} if sources else {"source": str(inputs / "text.txt")}
        return open_job(config_of(inputs, tmp_path / "store", calibration={**given, **text}, divergence=divergence))

    return job


def of(inputs, letter, share, **fields):
    where = {"dataset": str(inputs / "corpus"), "text_field": "words"} if letter == "c" else None
    return {**(where or {"source": str(inputs / f"{letter}.txt")}), "share": share, **fields}


MIX = [("a", 5), ("b", 3), ("c", 2)]


def letters(job, samples):
    """How many samples are of each letter; every sample is of one text."""
    alphabet = {letter: packed(job, letter)[0, 0] for letter in "abc"}
    found = {letter: int((samples == token).any(axis=1).sum()) for letter, token in alphabet.items()}
    assert sum(found.values()) == len(samples)
    return found


def packed(job, letter):
    tokenizer = load_tokenizer(job.checkpoint.folder)
    return np.array([tokenizer(letter * 10, add_special_tokens=False)["input_ids"]])


def test_the_composition_is_exact(job_of):
    job = job_of(MIX)
    assert letters(job, load_calibration(job)) == {"a": 10, "b": 6, "c": 4}
    assert "datasets" in steps.calibration_step(job).identity["versions"]


def test_a_seed_changes_the_order_and_nothing_else(job_of):
    jobs = [job_of(MIX, mix_seed=seed) for seed in (0, 0, 1)]
    first, again, other = map(load_calibration, jobs)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first.tolist()) == sorted(other.tolist())
    assert steps.calibration_step(jobs[0]).path != steps.calibration_step(jobs[2]).path


def test_neither_the_order_of_the_texts_nor_the_scale_of_shares_decides_anything(job_of, inputs):
    one, same = job_of(MIX), job_of([("c", 0.2), ("a", 0.5), ("b", 0.3)])
    assert steps.calibration_step(one).path == steps.calibration_step(same).path
    assert np.array_equal(load_calibration(one), load_calibration(same))
    assert same.calibration.label.startswith(
        f"a mix of {inputs / 'corpus'}, train (20 %) and {inputs / 'a.txt'} (50 %)"
    )
    assert steps.calibration_step(job_of([("a", 4), *MIX[1:]])).path != steps.calibration_step(one).path


def test_a_text_alone_keeps_the_identity_that_it_had(job_of, inputs):
    job = job_of()
    identity = steps.calibration_step(job).identity
    assert {key: value for key, value in identity.items() if key != "versions"} == {
        "algorithm": 1,
        "model": job.checkpoint.identity,
        "source": file_sha256(inputs / "text.txt", ""),
        "text_field": "text",
        "num_samples": 20,
        "seq_len": LENGTH,
        "shuffle_seed": None,
    }
    assert [*identity["versions"]] == ["tokenizers", "transformers"]


def test_what_is_compared_on_follows_in_each_text_in_the_same_shares(job_of):
    job = job_of(MIX, divergence={"num_samples": 10})
    behind = load_divergence(job)
    assert letters(job, behind) == {"a": 5, "b": 3, "c": 2}
    # Of the data set no sample is like another: none of those that are scored is compared on.
    scored = {tuple(sample) for sample in load_calibration(job).tolist()}
    token = packed(job, "c")[0, 0]
    rest = [tuple(sample) for sample in behind.tolist() if token in sample]
    assert len({*rest} - scored) == 2
    alone = job_of([("c", 1)], num_samples=6)
    assert sorted(rest) == sorted(map(tuple, load_calibration(alone)[4:].tolist()))


def test_of_a_text_that_ends_the_rest_keeps_its_composition(job_of, inputs):
    (inputs / "short.txt").write_text("b" * (6 * LENGTH + 2 * LENGTH + 5))  # two samples more than are scored
    job = job_of([("a", 7), ("short", 3)], divergence={"num_samples": 50})
    message = (
        "evaluation.divergence: .*short.txt has 2 samples of 32 tokens behind its 6 calibration samples, and 15 of "
    )
    with pytest.raises(UserError, match=message):
        load_divergence(job)
    # A config that does not name the section takes what there is: of 9 samples 3 would be of the short text.
    values = job.config.model_dump(exclude_unset=True)
    values["evaluation"].pop("divergence")
    job = open_job(parse_config(values, "test"))
    rest = load_divergence(job)
    assert letters(job, rest) == {"a": 6, "b": 2, "c": 0}
    said = shortage(job, len(rest))
    assert "short.txt (30 %), behind the 20 calibration samples, has 8 of the 32 samples" in said


def test_a_text_that_is_too_short_says_which_share_would_do(job_of, inputs):
    (inputs / "five.txt").write_text("b" * (5 * LENGTH))
    message = (
        r"calibration.sources\[1\].source: .*five.txt gives 5 samples of 32 tokens, its share of 1 takes 10 of 20; "
        "lower its share to 0.333, give more text"
    )
    with pytest.raises(UserError, match=message):
        load_calibration(job_of([("a", 1), ("five", 1)]))
    job = job_of([("a", 1), ("five", 0.333)])
    assert letters(job, load_calibration(job))["b"] == 5


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([("a", 1), ("nowhere", 1)], r"calibration.sources\[1\].source: .*nowhere.txt is not a file"),
        ([("a", 1), ("b", 1), ("a", 2)], r"calibration.sources\[2\].source is the text of calibration.sources\[0\]"),
        ([("a", 100), ("b", 1)], r"calibration.sources\[1\].share: 1 is less than one of 20 samples; raise it"),
    ],
)
def test_bad_sources_are_named_before_anything_is_tokenized(job_of, sources, message):
    with pytest.raises(UserError, match=message):
        steps.calibration_step(job_of(sources))


def test_errors_of_a_data_set_name_its_place(job_of, inputs):
    job = job_of([("a", 1), ("c", 1)])
    texts = job.config.calibration.sources
    wrong = {"sources": (texts[0], texts[1].model_copy(update={"text_field": "text"}))}
    values = job.config.model_copy(update={"calibration": job.config.calibration.model_copy(update=wrong)})
    with pytest.raises(UserError, match=r"calibration.sources\[1\].text_field: .* has no column text; it has words"):
        load_calibration(open_job(values))


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"source": "a", "sources": [{"source": "b"}]}, "calibration: give either `source` .* or `sources`"),
        ({"sources": []}, "calibration: give either `source`"),
        ({"sources": [{"source": "a", "share": 0}]}, r"calibration.sources\[0\].share: .*greater than 0"),
        ({"sources": [{"source": "a", "share": -1}]}, r"calibration.sources\[0\].share: .*greater than 0"),
        ({"sources": [{"source": "a", "share": float("inf")}]}, r"calibration.sources\[0\].share: .*finite"),
        ({"sources": [{"share": 1}]}, r"calibration.sources\[0\]: give either `source`"),
        ({"sources": [{"source": "a", "dataset": "b"}]}, r"calibration.sources\[0\]: give either `source`"),
        ({"sources": [{"source": "a", "dataset_config": "en"}]}, r"sources\[0\]: `dataset_config` goes with `dataset`"),
        ({"sources": [{"source": "a"}], "text_field": "body"}, "`text_field` goes into each of the `sources`"),
        ({"source": "a", "mix_seed": 1}, "`mix_seed` goes with `sources`"),
    ],
)
def test_what_a_config_says_of_a_mix_is_checked(inputs, tmp_path, calibration, message):
    with pytest.raises(UserError, match=message):
        parse_config(config_values(inputs, tmp_path, calibration=calibration), "test")


def test_the_first_samples_that_a_benchmark_takes_depend_on_how_many_a_mix_has(inputs, tmp_path):
    def bench(number, **text):
        text |= {"num_samples": number, "seq_len": LENGTH}
        job = open_job(config_of(inputs, tmp_path / "store", calibration=text, serving=SERVING))
        return steps.bench_step(job, job.base_variant).path

    texts = [of(inputs, *one) for one in MIX]
    assert bench(20, sources=texts) == bench(20, sources=texts[::-1]) != bench(30, sources=texts)
    alone = str(inputs / "a.txt")
    assert bench(20, source=alone) == bench(30, source=alone)


def test_the_report_says_what_was_mixed(job_of, inputs):
    job = job_of(MIX)
    state = run_stages(job, "plan")
    results = collect(state, [])
    assert [(row.asked, row.part, row.samples, row.tokens) for row in results.texts if row.of == "calibration"] == [
        (5.0, 0.5, 10, 320),
        (3.0, 0.3, 6, 192),
        (2.0, 0.2, 4, 128),
    ]
    assert results.run.calibration.startswith(f"a mix of {inputs}")
    assert results.run.calibration.endswith(": 20 samples of 32 tokens")
    text = render_markdown(results)
    assert "The calibration text and the others" in text
    assert "50.00 %" in text
    alone = collect(run_stages(job_of(), "plan"), []).texts[0]
    assert (alone.of, alone.asked, alone.part) == ("calibration", 1.0, 1.0)


def test_the_same_texts_again_are_not_tokenized_anew(job_of):
    first = run_stages(job_of(MIX), "score").calibrated
    again = run_state(job_of(list(reversed(MIX))))
    assert calibrate(again) == first
