"""What a worker does with the engine of a variant: started once, checked first, started anew when it dies."""

from dataclasses import replace

import pytest
import torch
from local_run import start_worker, variant
from tiny_run import config_of, write_inputs

from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
from drop_ray.evaluation.tokens.token_model import Continuation
from drop_ray.job import steps
from drop_ray.job.opening import open_job
from drop_ray.serving import evaluation_preflight, servable
from drop_ray.serving.engine import Completed, EngineError, EngineFacts, PromptScores, Score, Scores
from drop_ray.serving.gate import GateError
from drop_ray.serving.reference import Reference
from drop_ray.stages import engine_evaluated
from drop_ray.stages.engine_evaluated import EngineRequest
from drop_ray.stages.evaluate import ENGINE_STAGE, EvaluationUnit

LENGTH = 128
BLOCK = 16


class FakeEngine:
    """The model in transformers, behind the interface of an engine. Every one that is made is in `made`.

    dies_at: numbers of the calls of `score`, over all engines, in which one dies. starts_with: errors of the starts.
    """

    made, calls, dies_at, starts_with, shift = [], 0, set(), {}, 0.0

    def __init__(self, settings, who):
        self.settings, self.who, self.alive = settings, who, True
        self.reference = Reference(settings)
        FakeEngine.made.append(self)

    def wait(self):
        error = self.starts_with.get(len([each for each in self.made if each.settings.kind == self.settings.kind]))
        if self.settings.kind == "vllm" and error is not None:
            raise error
        return self

    def close(self):
        self.alive = False

    def facts(self):
        size = 4
        layers = tuple(layer for layer in range(size) if layer not in self.settings.drops.attn)
        kv_bytes = len(layers) * 2 * 2 * 8 * 4
        blocks = self.settings.kv_cache_bytes // (kv_bytes * BLOCK)
        return EngineFacts("0", "fake", blocks * BLOCK, blocks, BLOCK, layers, kv_bytes, 1000)

    def score_prompts(self, prompts):
        scores = self.reference.score_prompts(prompts)
        shift = self.shift if self.settings.kind == "vllm" else 0
        return PromptScores(scores.logprobs + shift, scores.top, scores.margins)

    def greedy(self, prompts, length):
        return self.reference.greedy(prompts, length)

    def generate(self, prompts, length):
        class Generation:
            tokens = self.reference.greedy(prompts, length)

        return Generation

    def score(self, contexts, targets):
        FakeEngine.calls += 1
        if FakeEngine.calls in self.dies_at:
            raise EngineError(f"the engine of {self.who} died in `score`; its last lines:\n  out of luck")
        tokens = HfTokenModel(self.reference._model, batch_size=4, max_length=LENGTH)
        requests = [Continuation(tuple(c), tuple(t)) for c, t in zip(contexts, targets, strict=True)]
        return Scores(tuple(Score(each.total, each.is_greedy) for each in tokens.likelihoods(requests)), 7)

    def complete(self, prompts, completion):
        return Completed(tuple((5,) for _ in prompts), (True,) * len(prompts), 9)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    state = {"made": [], "calls": 0, "dies_at": set(), "starts_with": {}, "shift": 0.0}
    for name, value in state.items():
        monkeypatch.setattr(FakeEngine, name, value)
    monkeypatch.setattr(engine_evaluated, "EngineProcess", FakeEngine)
    monkeypatch.setattr(evaluation_preflight, "check_vllm", lambda *_: None)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    return FakeEngine


def config(inputs, store, **evaluation):
    made = config_of(inputs, store)
    fields = {"backend": "vllm", "max_length": LENGTH, "divergence": None, "kv_cache_bytes": 1 << 20, **evaluation}
    return made.model_copy(update={"evaluation": made.evaluation.model_copy(update=fields)})


@pytest.fixture
def job(inputs, tmp_path):
    return open_job(config(inputs, tmp_path / "store"))


def request_of(job, **fields):
    text = [[3 + (7 * row + 5 * place) % 290 for place in range(32)] for row in range(2)]
    return EngineRequest(
        **{
            "max_length": LENGTH,
            "device": "cpu",
            "tensor_parallel": 1,
            "kv_cache_bytes": 1 << 20,
            "size": job.size,
            "base_drops": job.base_drops,
            "text": text,
            "max_attempts": 3,
            **fields,
        }
    )


def units(job, chosen, **fields):
    request, unit_steps = request_of(job, **fields), steps.evaluation_steps(job, chosen)
    token_ids = torch.arange(3, 67).reshape(2, 32)
    return [
        EvaluationUnit(
            "choose",
            unit_steps["choose"],
            "evaluate choose",
            chosen,
            "choose",
            TaskRequest("choose", 2),
            engine=request,
        ),
        EvaluationUnit(
            "text", unit_steps["text"], "evaluate text", chosen, "text", token_ids=token_ids, engine=request
        ),
    ]


def kinds(fake):
    return [each.settings.kind for each in fake.made]


def test_all_units_of_a_plan_are_done_by_one_engine_that_passed_the_gate(job, fake):
    worker = start_worker(job)
    commits = [unit.work(worker) for unit in units(job, variant(job, "plan", attn=(1,)))]
    assert kinds(fake) == ["reference", "vllm"]
    assert [each.alive for each in fake.made] == [False, True]
    engine = fake.made[1].settings
    assert (engine.drops.attn, engine.evaluates, engine.prefix_caching, engine.max_model_len) == (
        (1,),
        True,
        True,
        LENGTH,
    )
    measured = [commit.provenance["measured"] for commit in commits]
    assert all(each["asked_tokens"] > 0 for each in measured)
    assert [each["computed_tokens"] for each in measured] == [7, 7]
    worker.release()
    assert not fake.made[1].alive


def test_another_plan_ends_the_engine_of_the_one_before(job, fake):
    worker = start_worker(job)
    for name, attn in (("one", (1,)), ("two", (2,))):
        units(job, variant(job, name, attn=attn))[0].work(worker)
    assert [each.alive for each in fake.made if each.settings.kind == "vllm"] == [False, True]


def test_a_unit_whose_engine_dies_is_repeated_with_a_fresh_one(job, fake, caplog):
    worker = start_worker(job)
    first, second = units(job, variant(job, "plan", attn=(1,)))
    first.work(worker)
    expected = first.work(worker).checksum
    fake.dies_at = {fake.calls + 1}
    assert first.work(worker).checksum == expected
    assert "choose: its engine is lost, attempt 1 of 3: the engine of plan died in `score`" in caplog.text
    assert kinds(fake) == ["reference", "vllm"] * 2
    second.work(worker)
    assert kinds(fake) == ["reference", "vllm"] * 2


def test_a_unit_whose_engines_always_die_is_named_and_the_next_one_is_done(job, fake):
    worker = start_worker(job)
    first, second = units(job, variant(job, "plan", attn=(1,)), max_attempts=2)
    # Each engine answers the gate twice before it is asked for the unit.
    fake.dies_at = {3, 6}
    with pytest.raises(WorkerFailedError, match=r"^choose: its engine was lost 2 times; the last: .*\n  out of luck"):
        first.work(worker)
    assert second.work(worker)
    assert ENGINE_STAGE.goes_on


def test_a_plan_that_fails_the_gate_gets_no_numbers_and_no_second_start(job, fake):
    worker = start_worker(job)
    fake.shift = 0.5
    for unit in units(job, variant(job, "plan", attn=(1,))):
        with pytest.raises(GateError, match=r"^plan: engine \(vllm\) differs from the model's own forward in float32"):
            unit.work(worker)
    assert kinds(fake) == ["reference", "vllm"]
    assert not fake.made[1].alive


def test_garbage_from_the_cache_of_prefixes_does_not_pass_the_gate(job, fake, monkeypatch):
    """What vLLM gives for positions that it did not compute: the second answer is another one."""
    answers = iter([0.0, 3.0])
    score = FakeEngine.score

    def garbage(self, contexts, targets):
        found = score(self, contexts, targets)
        return replace(found, scores=tuple(replace(each, total=each.total + next(answers)) for each in found.scores))

    monkeypatch.setattr(FakeEngine, "score", garbage)
    worker = start_worker(job)
    with pytest.raises(GateError, match="from its cache of prefixes, scores a continuation otherwise"):
        units(job, variant(job, "plan", attn=(1,)))[0].work(worker)


def test_engines_that_do_not_start_are_not_tried_for_every_unit(job, fake):
    worker = start_worker(job)
    fake.starts_with = {number: EngineError("the engine of plan did not start; no kernel") for number in range(1, 9)}
    for unit in units(job, variant(job, "plan", attn=(1,)), max_attempts=2):
        with pytest.raises(
            WorkerFailedError, match="2 engines in a row were lost before they passed the gate.*no kernel"
        ):
            unit.work(worker)
    assert kinds(fake) == ["reference", "vllm"] * 2


def test_the_backend_engine_and_dtype_are_in_the_identity(inputs, tmp_path):
    def identity(**evaluation):
        job = open_job(config(inputs, tmp_path / "store", **evaluation))
        return job, steps.task_step(job, job.base_variant, "choose").identity

    job, by_vllm = identity()
    assert (by_vllm["backend"], by_vllm["dtype"], by_vllm["length"]) == ("vllm", "float32", LENGTH)
    assert "vllm" in by_vllm["versions"]
    assert "batch_size" not in by_vllm
    _, by_hf = identity(backend="hf", kv_cache_bytes=None)
    assert (by_hf["backend"], by_hf["share_prefixes"], by_hf["batch_size"]) == ("hf", True, 4)
    assert "vllm" not in by_hf["versions"]
    _, old = identity(backend="hf", kv_cache_bytes=None, share_prefixes=False)
    assert {**by_hf} == {**old, "share_prefixes": True}
    text = job.config.evaluation.perplexity[0]
    assert steps.perplexity_step(job, job.base_variant, text).identity["backend"] == "vllm"


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"max_length": 32}, "max_length: engines are checked on prompts, and need 64 at least"),
        ({"max_length": 512}, "max_length: 512 is more than the model's 256 positions"),
        ({"kv_cache_bytes": 1000}, "kv_cache_bytes: one sequence of 128 tokens needs .*, the budget is 1000; raise it"),
        ({"backend": "hf"}, "kv_cache_bytes: only vllm has such a cache"),
    ],
)
def test_evaluations_that_cannot_be_are_refused(inputs, tmp_path, evaluation, message):
    with pytest.raises(UserError, match=message):
        open_job(config(inputs, tmp_path / "store", **evaluation))


def test_vllm_that_is_not_installed_is_named_with_its_extra(inputs, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(servable, "installed_version", lambda name: None)
    with pytest.raises(
        UserError, match=r"evaluation\.backend: vllm needs vLLM: .*drop-ray\[gpu\].*set .*backend to hf"
    ):
        open_job(config(inputs, tmp_path / "store"))


def test_a_model_that_vllm_lacks_stays_on_hf(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_preflight, "is_refused_by_vllm", lambda name: True)
    with pytest.raises(UserError, match=r"evaluation\.backend: vllm is not taught LlamaForCausalLM .*; set .* to hf"):
        open_job(config(inputs, tmp_path / "store"))
