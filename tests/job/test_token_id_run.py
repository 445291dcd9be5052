"""A whole run on ready token ids, of a model that has no tokenizer, and what is refused of such a model."""

import json
import math

import numpy as np
import pytest
import tiny_models
import torch
from local_run import run_stages, start_worker
from transformers import AutoModelForCausalLM

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.job.opening import open_job
from drop_ray.models.registration import register
from drop_ray.stages.engines import prompt_tokens
from drop_ray.stages.forecast import forecast
from drop_ray.stages.report import collect, evaluations_of

LENGTH = 32


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny random Llama without tokenizer, ready token ids, and a plan by hand."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_models.make_model(num_layers=3).save_pretrained(folder / "model")
    drawn = np.random.default_rng(0).integers(2, tiny_models.VOCAB_SIZE, (120, LENGTH))
    for name, part in (("ids", drawn[:60]), ("others", drawn[60:90]), ("held_out", drawn[90:])):
        (folder / f"{name}.json").write_text(json.dumps(part.tolist()))
    (folder / "by_hand.json").write_text(json.dumps({"drop_attn": [1], "drop_mlp": [2]}))
    return folder


@pytest.fixture
def config_of(inputs, tmp_path):
    def config(**fields):
        mix = {"sources": [ids(inputs, "ids"), ids(inputs, "others")], "num_samples": 40, "seq_len": LENGTH}
        held_out = {**ids(inputs, "held_out"), "num_samples": 8, "seq_len": LENGTH}
        values = {
            "name": "ids",
            "model": {"path": str(inputs / "model"), "dtype": "float32"},
            "calibration": {
                **ids(inputs, "ids"),
                "num_samples": 12,
                "seq_len": LENGTH,
                "compare": [{"name": "others", **ids(inputs, "others")}, {"name": "few", "num_samples": [4, 8]}],
            },
            "plans": [{"strategy": "attention", "drop": [1]}, {"file": str(inputs / "by_hand.json")}],
            "refit": [{"ridge": 0.1, "held_out": 4, "text": mix}],
            "evaluation": {"perplexity": [{"name": "held-out", **held_out}], "divergence": held_out},
            "export": ["by_hand-refit"],
            "store": str(tmp_path / "store"),
            **fields,
        }
        return parse_config(values, "test")

    return config


def ids(inputs, name):
    return {"token_ids": str(inputs / f"{name}.json")}


def perplexity_of(inputs, name, num_samples):
    """Of the model, by transformers."""
    model = AutoModelForCausalLM.from_pretrained(inputs / "model", dtype=torch.float32)
    samples = torch.tensor(json.loads((inputs / f"{name}.json").read_text())[:num_samples])
    with torch.no_grad():
        return math.exp(model(samples, labels=samples).loss)


def test_it_comes_to_its_report(config_of, inputs):
    job = open_job(config_of())
    run = run_stages(job)
    plans = ["attention-1", "attention-1-consensus", "by_hand"]
    refits = [f"{name}-refit" for name in plans]
    assert [variant.name for variant in run.variants] == [*plans, *refits]
    assert run.panels.keys() == {*plans, *refits}
    results = collect(run, evaluations_of(run))
    perplexities = {row.variant: row.value for row in results.evaluations if row.metric == "token_perplexity"}
    assert perplexities.keys() == {"base", *plans, *refits}
    assert perplexities["base"] == pytest.approx(perplexity_of(inputs, "held_out", 8), rel=1e-5)
    assert {row.variant: row.text for row in results.refits}["by_hand-refit"] == (
        f"a mix of {inputs / 'ids.json'} (50 %) and {inputs / 'others.json'} (50 %)"
    )
    register()
    exported = AutoModelForCausalLM.from_pretrained(run.checkpoints["by_hand-refit"])
    assert (exported.config.drop_attn_list, exported.config.drop_mlp_list) == ([1], [2])


def test_what_plans_would_be_by_other_texts_is_in_its_report(config_of):
    run = run_stages(open_job(config_of(refit=[], export="none")), "diverge")
    results = collect(run, [])
    rows = [(row.text, row.num_samples) for row in results.sensitivity]
    assert rows == [("calibration", 12), ("others", 12), ("few", 4), ("few", 8), ("consensus", None)]
    own = results.sensitivity[0]
    panels = {row.variant: row for row in results.divergences}
    assert own.kl == panels["attention-1"].kl
    assert own.drop_attn == run.plans[0].drop_attn
    assert results.sensitivity[-1].kl == panels["attention-1-consensus"].kl
    for row in results.sensitivity:
        same = row.drop_attn == own.drop_attn
        assert (row.overlap == 1) == same
        assert (row.kl == own.kl) == same
        assert row.text == "calibration" or row.difference == pytest.approx(row.kl - own.kl, abs=1e-12)
    assert len(results.agreements) == 6  # of four
    # Fewer samples of the run's own text are no further work, and equal plans are compared once.
    assert len(run.cluster.names["score"]) == 2
    units = [entry for entry in run.ledger.entries if entry.step.name == "diverge"]
    assert len(units) == len({one.variant for one in run.compared} | {*run.variants})


def test_the_scores_of_another_text_are_those_of_a_run_that_has_it_as_its_own(config_of, inputs):
    text = {**ids(inputs, "others"), "num_samples": 12, "seq_len": LENGTH}
    compared = run_stages(open_job(config_of(refit=[], export="none")), "plan")
    alone = run_stages(open_job(config_of(calibration=text, name="alone", refit=[], export="none")), "plan")
    assert alone.cluster.names == {}
    (other,) = [one for one in compared.compared if one.text == "others"]
    assert other.variant == alone.variants[0]


def test_a_dry_run_counts_the_further_texts_and_the_plans_by_them(config_of):
    works = {work.name: work for work in forecast(open_job(config_of(refit=[], export="none")))}
    assert works["score base on others"].todo == works["score base"].todo == 1
    assert (works["plan"].units, works["plan"].todo) == (3, 2)
    # The plans, the one by hand, and at most one by each text and number of samples.
    assert works["diverge"].todo == 3 + 4


def test_prompts_are_drawn_from_what_the_configuration_does_not_set_apart(config_of):
    job = open_job(config_of())
    tokens, vocab_size = prompt_tokens(start_worker(job))
    special = {job.checkpoint.config["bos_token_id"], job.checkpoint.config["eos_token_id"]}
    assert vocab_size == tiny_models.VOCAB_SIZE
    assert {*range(vocab_size)} - {*tokens} == special - {None}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"evaluation": {"divergence": None, "tasks": ["arc_easy"]}},
            r"^evaluation.tasks: .* has no tokenizer .*; or leave out the tasks, which lm-eval puts as text",
        ),
        (
            {"calibration": {"source": "a.txt"}, "refit": [{"text": {"sources": [{"source": "a.txt"}]}}]},
            r"^calibration \(and refit \(refit\).text\): .* has no tokenizer .*; or give ready token ids",
        ),
    ],
)
def test_what_needs_a_tokenizer_is_refused_by_its_field(config_of, fields, message):
    with pytest.raises(UserError, match=message):
        open_job(config_of(**fields))
