"""vLLM against transformers on the demo model without some sub-layers, in float32: the same results, fewer tokens.

One engine of a worker answers everything here, since it starts in half a minute.
"""

import os
import random
import signal
from dataclasses import replace

import datasets
import pytest
import torch
from installed import needs_vllm
from judged_tasks import TASKS, write_tasks
from local_run import start_worker, variant

from drop_ray.config import parse_config
from drop_ray.demo import CALIBRATION_FILE, MODEL_FOLDER
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.tokens.token_model import Continuation
from drop_ray.job.opening import open_job
from drop_ray.models.export import export_checkpoint
from drop_ray.stages.engine_evaluated import EngineRequest
from drop_ray.stages.evaluated import asked, held

pytestmark = [pytest.mark.full, needs_vllm]
LENGTH = 1024
DEMO = ["demo_recall", "demo_agreement", "demo_arithmetic", "demo_perplexity"]


@pytest.fixture(scope="module", autouse=True)
def _dataset_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    write_tasks(folder / "tasks")
    values = {
        "name": "judged",
        "model": {"path": str(MODEL_FOLDER), "dtype": "float32"},
        "calibration": {"source": str(CALIBRATION_FILE), "num_samples": 2, "seq_len": 64},
        "evaluation": {
            "backend": "vllm",
            "include_path": str(folder / "tasks"),
            "tasks": list(TASKS),
            "divergence": None,
            "kv_cache_bytes": 1 << 28,
        },
        "store": str(folder / "store"),
    }
    return open_job(parse_config(values, "test"))


@pytest.fixture(scope="module")
def plan(job):
    return variant(job, "plan", attn=(0, 5), mlp=(3,))


@pytest.fixture(scope="module")
def request_(job):
    draw = random.Random(0)
    text = [[draw.randrange(5, 1000) for _ in range(64)] for _ in range(2)]
    return EngineRequest(LENGTH, "cpu", 1, 1 << 28, job.size, job.base_drops, text, max_attempts=2)


@pytest.fixture(scope="module")
def engine(job, plan, request_):
    worker = start_worker(job)
    yield held(worker, plan, None, request_)
    worker.release()


@pytest.fixture(scope="module")
def hf(job, plan):
    evaluation = job.config.evaluation.model_copy(update={"backend": "hf"})
    return held(start_worker(job, evaluation=evaluation), plan, None)


def documents(result):
    rows = result.documents.to_pylist()
    return {(row["task"], row["doc_hash"], row["doc_id"], row["metric"], row["filter"]): row["value"] for row in rows}


def metrics(result):
    return {(metric.task, metric.metric, metric.filter): metric.value for metric in result.metrics}


@pytest.mark.parametrize("name", TASKS)
def test_results_are_those_of_transformers(engine, hf, name):
    by_engine, by_hf = engine.task(TaskRequest(name)), hf.task(TaskRequest(name))
    # Perplexities are exponentials of the log-likelihoods: 1e-4 of a document's is 1e-4 of them.
    assert documents(by_engine) == pytest.approx(documents(by_hf), rel=1e-4, abs=1e-4)
    assert metrics(by_engine) == pytest.approx(metrics(by_hf), rel=1e-4)
    if by_hf.metrics[0].metric in ("acc", "exact_match"):
        assert metrics(by_engine) == metrics(by_hf)
        assert 0 < by_hf.metrics[0].value < 1


def likelihoods(model, requests):
    return [answer.total for answer in model.tokens.likelihoods(requests)]


def tokens(draw, count):
    return tuple(draw.randrange(5, 1000) for _ in range(count))


def test_a_continuation_longer_than_a_block_is_right_when_it_is_asked_again(engine, hf):
    """The second time, the continuation is in the cache, where vLLM has no log-probabilities of it."""
    draw = random.Random(1)
    requests = [Continuation(tokens(draw, 100), tokens(draw, 400)), Continuation(tokens(draw, 1), tokens(draw, LENGTH))]
    first, second = likelihoods(engine, requests), likelihoods(engine, requests)
    expected = likelihoods(hf, requests)
    assert first == pytest.approx(expected, abs=1e-3)  # of 400 and 1024 tokens
    assert second == pytest.approx(expected, abs=1e-3)


def test_choices_of_one_token_are_one_request(engine, hf):
    draw = random.Random(2)
    context = tokens(draw, 200)
    requests = [Continuation(context, (token,)) for token in range(5, 205)]  # more than vLLM gives in one
    before = replace(engine.tokens.counts)
    found = engine.tokens.likelihoods(requests)
    assert [each.total for each in found] == pytest.approx(likelihoods(hf, requests), abs=1e-4)
    assert [each.is_greedy for each in found] == [each.is_greedy for each in hf.tokens.likelihoods(requests)]
    taken = engine.tokens.counts.since(before)
    assert taken["asked_tokens"] == 200 * 200
    assert taken["computed_tokens"] <= 200 + 128


def test_a_task_with_the_same_examples_computes_few_of_its_tokens(engine, hf):
    shares = {}
    for name, model in (("vllm", engine), ("hf", hf)):
        before = replace(model.tokens.counts)
        model.task(TaskRequest("letters", 10))
        taken = model.tokens.counts.since(before)
        shares[name] = taken["computed_tokens"] / taken["asked_tokens"]
    assert shares["vllm"] <= 0.3
    assert shares["hf"] <= 0.15


def test_the_perplexity_of_a_text_is_that_of_transformers(engine, hf):
    token_ids = torch.tensor([tokens(random.Random(seed), 100) for seed in range(4)])
    by_engine, by_hf = engine.text("text", token_ids), hf.text("text", token_ids)
    assert metrics(by_engine) == pytest.approx(metrics(by_hf), rel=1e-5)
    assert documents(by_engine) == pytest.approx(documents(by_hf), rel=1e-5)


def test_generation_of_tokens_ends_at_a_stop_and_at_nothing_else(engine, hf):
    draw = random.Random(3)
    prompts = [tokens(draw, 30) for _ in range(4)]
    free = hf.tokens.generate(prompts, 24)
    assert engine.tokens.generate(prompts, 24) == free
    stop = [free[0][5]]
    assert engine.tokens.generate(prompts, 24, stop) == hf.tokens.generate(prompts, 24, stop)


def test_results_are_those_of_lm_eval_on_the_exported_checkpoint(job, plan, engine, tmp_path, monkeypatch):
    """Where its few-shot rule is the same: the first examples, or none."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    export_checkpoint(job.checkpoint, plan.drops, tmp_path / "checkpoint")
    monkeypatch.chdir(job.include_path)  # lm-eval itself reads data files from where it runs
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "checkpoint"), "dtype": "float32", "trust_remote_code": True},
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=job.include_path, include_defaults=False),
        batch_size=8,
        device="cpu",
        bootstrap_iters=0,
    )["results"]
    for name in TASKS:
        for metric in engine.task(TaskRequest(name)).metrics:
            assert metric.value == pytest.approx(found[name][f"{metric.metric},{metric.filter}"], rel=1e-4)


@pytest.mark.nightly
def test_a_unit_whose_engine_is_killed_is_repeated(job, plan, request_):
    worker = start_worker(job)
    killed = []

    def ask(model):
        if not killed:
            killed.append(model.tokens._engine.pid)
            os.kill(killed[0], signal.SIGKILL)
        return model.task(TaskRequest("letters"))

    result, taken = asked(worker, plan, None, request_, "letters on plan", ask)
    assert killed
    assert result.metrics[0].value > 0
    assert 0 < taken["computed_tokens"] < taken["asked_tokens"]
    worker.release()
