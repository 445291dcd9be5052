"""A text is the same thing wherever the config takes one: a file, a data set, ready token ids, or a mix."""

import json

import numpy as np
import pytest
from local_run import run_state
from tiny_run import config_of, config_values, write_inputs

from drop_ray.calibration import packing
from drop_ray.config import DIVERGENCE, parse_config, perplexity_field, quantization_field, refit_field
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.change_sections import text_identity
from drop_ray.job.file_hash import file_sha256
from drop_ray.job.opening import open_job
from drop_ray.job.texts import Texts, load_samples
from drop_ray.stages.report_rows import text_rows

LENGTH = 32
SIZE = {"num_samples": 12, "seq_len": LENGTH}
FIELDS = {
    DIVERGENCE: lambda text: {"divergence": text},
    perplexity_field("t"): lambda text: {"evaluation": {"divergence": None, "perplexity": [{"name": "t", **text}]}},
    refit_field("refit"): lambda text: {"refit": [{"text": {**text, "num_samples": 40}, "held_out": 2}]},
    quantization_field("gptq"): lambda text: {
        "quantization": [{"method": "gptq", "group_size": 16, "held_out": 2, "text": text}]
    },
}
"""How a config names a text of that field."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    for letter in "ab":
        (folder / f"{letter}.txt").write_text(letter * 3000)
    ids = np.random.default_rng(0).integers(2, 290, (60, LENGTH + 3)).tolist()
    (folder / "ids.json").write_text(json.dumps(ids))
    return folder


@pytest.fixture
def job_of(inputs, tmp_path):
    return lambda **fields: open_job(config_of(inputs, tmp_path / "store", **{"refit": [], **fields}))


def mix(inputs):
    return {
        "sources": [
            {"source": str(inputs / "a.txt"), "share": 2},
            {"token_ids": str(inputs / "ids.json")},
            {"source": str(inputs / "b.txt")},
        ]
    }


def ids_of(inputs):
    return json.loads((inputs / "ids.json").read_text())


@pytest.mark.parametrize("field", FIELDS)
def test_a_mix_has_its_shares_and_says_so(job_of, inputs, field):
    job = job_of(**FIELDS[field]({**mix(inputs), **SIZE}))
    samples = load_samples(job, field)
    wanted = len(samples) // 4
    ready = {tuple(ids[:LENGTH]) for ids in ids_of(inputs)[:wanted]}
    assert sum(tuple(sample) in ready for sample in samples.tolist()) == wanted
    rows = [row for row in text_rows(job) if row.of == field]
    assert [(row.of, row.part, row.samples) for row in rows] == [
        (field, 0.5, 2 * wanted),
        (field, 0.25, wanted),
        (field, 0.25, wanted),
    ]


@pytest.mark.parametrize("field", FIELDS)
def test_ready_token_ids_are_the_samples(job_of, inputs, field):
    job = job_of(**FIELDS[field]({"token_ids": str(inputs / "ids.json"), **SIZE}))
    samples = load_samples(job, field)
    assert samples.tolist() == [ids[:LENGTH] for ids in ids_of(inputs)[: len(samples)]]


@pytest.mark.parametrize("field", [one for one in FIELDS if one != refit_field("refit")])
def test_bad_ids_are_named_by_every_field(job_of, tmp_path, field):
    check_bad_ids(job_of, tmp_path, field, json.dumps([[5] * 9]), r".token_ids: sample 0 of .*bad.json has 9 tokens")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r".token_ids: .*bad.json"),
        ("[]", r".token_ids: the text gives 0 samples of 32 tokens"),
        ("{}", r".token_ids: .*bad.json must hold a list"),
        (json.dumps([[5] * 40, [5] * 9]), r".token_ids: sample 1 of .*bad.json has 9 tokens, seq_len is 32; lower"),
        (json.dumps([[5] * 40, "text"]), r".token_ids: .*must hold lists of ints, and sample 1 is 'text'"),
        (json.dumps([[5] * 40, [5, None]]), r".token_ids: .*lists of ints, and sample 1 has a value of type NoneType"),
        (json.dumps([[5.0] * 40]), r".token_ids: .*must hold lists of ints, and sample 0 has a value of type float"),
        (json.dumps([[5] * 40, [300] * 40]), r".token_ids: token id 300 is outside the model's vocabulary of 300"),
        (json.dumps([[5] * 40, [-1] * 40]), r".token_ids: sample 1 of .* has the token id -1, which no vocabulary has"),
    ],
)
def test_bad_ids_are_refused_with_their_place(job_of, tmp_path, content, message):
    check_bad_ids(job_of, tmp_path, refit_field("refit"), content, message)


def check_bad_ids(job_of, tmp_path, field, content, message):
    (tmp_path / "bad.json").write_text(content)
    job = job_of(**FIELDS[field]({"token_ids": str(tmp_path / "bad.json"), **SIZE}))
    with pytest.raises(UserError) as error:
        dict(Texts(job))
    assert error.match(f"^{field.replace('(', '.').replace(')', '.')}{message}")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"source": "a", "token_ids": "b"}, "give either `source`"),
        ({"sources": [{"source": "a"}], "dataset": "b"}, "give either `source`"),
        ({"token_ids": "a", "text_field": "body"}, "`text_field` goes with `source` or `dataset`"),
        ({"token_ids": "a", "shuffle_seed": 1}, "`shuffle_seed` goes with `source` or `dataset`"),
        ({"source": "a", "mix_seed": 1}, "`mix_seed` goes with `sources`"),
        ({"source": "a", "dataset_split": "test"}, "`dataset_split` goes with `dataset`"),
    ],
)
def test_what_contradicts_itself_is_refused_everywhere(inputs, tmp_path, field, text, message):
    with pytest.raises(UserError, match=message):
        parse_config(config_values(inputs, tmp_path, **FIELDS[field]({**text, **SIZE})), "test")


def test_a_text_of_its_own_is_asked_for_where_none_stands_for_the_runs(inputs, tmp_path):
    for field in (perplexity_field("t"), refit_field("refit"), quantization_field("gptq")):
        with pytest.raises(UserError, match="give either `source`"):
            parse_config(config_values(inputs, tmp_path, **FIELDS[field](SIZE)), "test")
    parse_config(config_values(inputs, tmp_path, divergence={}), "test")


def test_files_of_text_keep_the_identities_that_they_had(job_of, inputs):
    source, own = str(inputs / "a.txt"), {"text_field": "text", "num_samples": 12, "seq_len": LENGTH}
    sha = file_sha256(inputs / "a.txt", "")
    job = job_of(**FIELDS[quantization_field("gptq")]({"source": source, **SIZE}))
    (spec,) = job.config.quantization
    assert text_identity(job, spec.text, quantization_field("gptq")) == {"source": sha, **own}
    job = job_of(**FIELDS[perplexity_field("t")]({"source": source, **SIZE}))
    (step,) = steps.evaluation_steps(job, job.base_variant).values()
    assert {key: step.identity[key] for key in ("text", *own)} == {"text": sha, **own}
    assert "shuffle_seed" not in step.identity
    identity = steps.divergence_text_step(job_of(divergence={"source": source, "num_samples": 12})).identity
    assert {key: identity[key] for key in ("source", *own)} == {"source": sha, **own}
    assert "shuffle_seed" not in identity


@pytest.mark.parametrize("field", FIELDS)
def test_other_texts_have_other_identities(job_of, inputs, field):
    def key(**text):
        job = job_of(**FIELDS[field]({**SIZE, **text}))
        return json.dumps(job.text(field).identity, sort_keys=True)

    source = {"source": str(inputs / "a.txt")}
    texts = [source, {**source, "shuffle_seed": 3}, {"token_ids": str(inputs / "ids.json")}, mix(inputs)]
    texts.append({**mix(inputs), "mix_seed": 1})
    assert len({key(**text) for text in texts}) == 5
    assert key(sources=mix(inputs)["sources"][::-1]) == key(**mix(inputs))


def test_ready_token_ids_depend_on_no_model(job_of, inputs):
    job = job_of(divergence={"token_ids": str(inputs / "ids.json"), "num_samples": 12})
    assert steps.divergence_text_step(job).identity["model"] is None
    job = job_of(divergence={"source": str(inputs / "a.txt"), "num_samples": 12})
    assert steps.divergence_text_step(job).identity["model"] == job.checkpoint.identity


def test_a_text_that_is_judged_on_and_fitted_to_is_warned_about(job_of, inputs, caplog):
    """The perplexity text is the calibration text, cut elsewhere, so that one sample of it is in two of the others; the
    text to refit to goes on into what is compared on."""
    text, words = inputs / "text.txt", (inputs / "text.txt").read_text().split()
    (inputs / "later.txt").write_text(" ".join(words[1000:]))
    perplexity = [{"name": "same", "source": str(text), "num_samples": 3, "seq_len": 20}]
    perplexity.append({"name": "later", "source": str(inputs / "later.txt"), "num_samples": 3, "seq_len": LENGTH})
    job = job_of(
        evaluation={"divergence": {"num_samples": 8}, "perplexity": perplexity},
        refit=[{"text": {"source": str(text), "num_samples": 24, "seq_len": LENGTH}, "num_samples": 22, "held_out": 2}],
    )
    dict(Texts(job))
    said = [record.getMessage().partition(";")[0] for record in caplog.records]
    assert said == [
        "evaluation.divergence: 4 of its 8 samples are, at least in part, among those of refit (refit).text",
        "evaluation.perplexity (same): 2 of its 3 samples are, at least in part, among those of calibration",
        "evaluation.perplexity (same): 2 of its 3 samples are, at least in part, among those of refit (refit).text",
    ]


def test_the_store_spares_the_calibration_text_a_second_reading(job_of, monkeypatch):
    job = job_of()
    state = run_state(job)
    state.texts = Texts(job)
    from drop_ray.stages.calibration import calibrate

    found = calibrate(state)
    monkeypatch.setattr(packing, "packed_behind", None)
    assert calibrate(run_state(job)) == found
