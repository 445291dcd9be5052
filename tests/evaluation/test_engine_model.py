"""lm-eval's model over an engine asks and answers as its hf model does. Here transformers plays the engine."""

import json

import datasets
import pytest
import torch
from test_evaluation_harness import CHAT_TEMPLATE, TASKS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.harness import EngineEvaluator, Evaluator
from drop_ray.evaluation.tasks.generation_settings import check_generation, sampling_of
from drop_ray.evaluation.token_answers import truncated
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
from drop_ray.evaluation.tokens.token_model import Completed, Completion, Continuation

LENGTH = 192


class Engine(HfTokenModel):
    """Completes texts token by token, as an engine would."""

    def __init__(self, model, tokenizer):
        super().__init__(model, batch_size=4, max_length=LENGTH)
        self.tokenizer, self.ways = tokenizer, []

    def complete(self, prompts, how):
        self.ways += how
        answers = []
        for prompt, way in zip(prompts, how, strict=True):
            tokens = ()
            while len(tokens) < way.max_tokens:
                tokens += self.generate([(*prompt, *tokens)], 1)[0]
                text = self.tokenizer.decode(tokens)
                if tokens[-1] in way.stop_tokens or any(stop in text for stop in way.stop):
                    break
            answers.append(Completed(tokens, is_finite=True))
        return answers


@pytest.fixture(scope="module", autouse=True)
def _dataset_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


def make_tokenizer(**special):
    symbols = ["<|end|>", "<s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<|end|>", **special)
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture(scope="module", params=["eos", "bos"])
def tokenizer(request):
    return make_tokenizer(**({"bos_token": "<s>"} if request.param == "bos" else {}))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=[0, 44],
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The tests' tasks, and one that generates up to a stop string, with shots."""
    folder = tmp_path_factory.mktemp("tasks")
    for file in TASKS.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    rows = [{"text": text, "answer": "x"} for text in ("Ask the ferryman", "Read the letter " * 20, "Go", "<s>Wait")]
    (folder / "asked.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "asked.yaml").write_text(
        "task: asked\ndataset_path: json\ndataset_kwargs: {data_files: {test: asked.jsonl}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: text\ndoc_to_target: answer\nfewshot_split: test\n"
        "fewshot_config: {sampler: first_n}\n"
        'generation_kwargs: {until: ["e", "\\n"], max_gen_toks: 24, do_sample: false}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


def evaluators(model, tokenizer, tasks, **settings):
    engine = Engine(model, tokenizer)
    common = {"include_path": str(tasks), "seed": 3, **settings}
    own = Evaluator(model, tokenizer, batch_size=4, max_length=LENGTH, **common)
    return own, EngineEvaluator(engine, model.config, tokenizer, **common)


def answers(result):
    return [
        (
            row["doc_hash"],
            row["metric"],
            None if row["value"] is None else pytest.approx(row["value"], rel=1e-5, abs=1e-4),
        )
        for row in result.documents.to_pylist()
    ]


@pytest.mark.parametrize(
    "request_",
    [TaskRequest("opposites", 2), TaskRequest("opposites_first", 3), TaskRequest("passages"), TaskRequest("asked", 1)],
    ids=lambda request: request.name,
)
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_results_are_those_of_the_hf_model(model, tokenizer, tasks, request_, chat):
    settings = {"apply_chat_template": chat, "system_instruction": "Be brief." if chat else None}
    own, engine = (each.evaluate(request_) for each in evaluators(model, tokenizer, tasks, **settings))
    assert answers(engine) == answers(own)
    assert [metric.metric for metric in engine.metrics] == [metric.metric for metric in own.metrics]
    for found, expected in zip(engine.metrics, own.metrics, strict=True):
        assert found.value == pytest.approx(expected.value, rel=1e-5, nan_ok=True)


def texts_of(evaluator, monkeypatch):
    """What the model of an evaluator generates for the task."""
    found = []
    generate = evaluator._model.generate_until

    def kept(requests, **settings):
        found.extend(generate(requests, **settings))
        return found

    monkeypatch.setattr(evaluator._model, "generate_until", kept)
    evaluator.evaluate(TaskRequest("asked"))
    return found


def test_generated_texts_are_those_of_the_hf_model(model, tokenizer, tasks, monkeypatch):
    own, engine = evaluators(model, tokenizer, tasks)
    texts = texts_of(own, monkeypatch)
    assert texts_of(engine, monkeypatch) == texts
    assert len({*texts}) > 1
    (way,) = {*engine._model.tokens.ways}
    assert way == Completion(24, (0, 44), ("\n", "<|end|>", "e"))


def test_too_long_a_generation_is_refused(model, tokenizer, tasks):
    (tasks / "long.yaml").write_text(
        (tasks / "asked.yaml").read_text().replace("task: asked", "task: long").replace("24", str(LENGTH))
    )
    _, engine = evaluators(model, tokenizer, tasks)
    with pytest.raises(UserError, match=rf"max_length: long generates {LENGTH} tokens, and a sequence has {LENGTH}"):
        engine.evaluate(TaskRequest("long"))


def test_numbers_that_are_not_finite_are_named_by_their_task(model, tokenizer, tasks, caplog):
    _, engine = evaluators(model, tokenizer, tasks)
    tokens = engine._model.tokens
    likelihoods = tokens.likelihoods
    tokens.likelihoods = lambda asked: [each._replace(total=float("nan")) for each in likelihoods(asked)]
    result = engine.evaluate(TaskRequest("opposites"))
    assert all(metric.value != metric.value for metric in result.metrics)
    assert "opposites: document 0 has the log-likelihood nan: an engine does not say why" in caplog.text


def test_settings_of_generation():
    assert sampling_of("task", {"until": ["."], "do_sample": False, "temperature": 0.7}, 1) == ()
    assert sampling_of("task", {"temperature": 0.7, "top_p": 0.9}, 1) == (
        ("seed", 1),
        ("temperature", 0.7),
        ("top_p", 0.9),
    )
    assert sampling_of("task", {"do_sample": True}, 1) == (("seed", 1), ("temperature", 1.0))
    assert sampling_of("task", {"repetition_penalty": 1.1}, 1) == (("repetition_penalty", 1.1),)
    with pytest.raises(UserError, match=r"evaluation\.backend: task generates with num_beams .*; set it to hf"):
        sampling_of("task", {"num_beams": 4}, 1)


def test_settings_that_an_engine_lacks_are_found_before_any_work(tasks):
    (tasks / "beams.yaml").write_text(
        (tasks / "asked.yaml")
        .read_text()
        .replace("task: asked", "task: beams")
        .replace("do_sample: false", "num_beams: 4")
    )
    check_generation([TaskRequest("asked"), TaskRequest("opposites")], str(tasks))
    with pytest.raises(UserError, match="beams generates with num_beams"):
        check_generation([TaskRequest("asked"), TaskRequest("beams")], str(tasks))


def test_long_contexts_lose_their_beginning():
    """As lm-eval truncates: `max_length` inputs, which are all tokens but the last."""
    asked = truncated(list(range(100)), [1, 2, 3], 20, "x")
    assert asked == Continuation(tuple(range(82, 100)), (1, 2, 3))
    assert truncated([5], [1, 2], 20, "x") == Continuation((5,), (1, 2))
    assert len(truncated([5, 6], list(range(20)), 20, "x").context) == 1
    with pytest.raises(UserError, match=r"evaluation\.max_length: .* its 21 tokens are more than 20"):
        truncated([5, 6], list(range(21)), 20, "x")
