"""The lm-eval adapter on a tiny random model: numbers checked against the model's own logits, and repeatability."""

import copy
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from drop_ray.errors import UserError
from drop_ray.evaluation import TaskRequest, TaskResult
from drop_ray.evaluation.harness import Evaluator
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel

TASKS = Path(__file__).parents[1] / "support" / "evaluation_tasks"
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module", autouse=True)
def _dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, so that prompts and continuations join without merging."""
    symbols = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<|end|>")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def evaluator(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Evaluator:
    return Evaluator(model, tokenizer, include_path=str(TASKS), batch_size=4, seed=3)


def log_likelihood(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, text: str) -> float:
    """Nats of `text` after `prompt` (after the EOS token when there is none), from the logits."""
    prefix = tokenizer.encode(prompt) or [tokenizer.eos_token_id]
    ids = torch.tensor([prefix + tokenizer.encode(text)])
    with torch.no_grad():
        log_probabilities = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return float(sum(log_probabilities[i - 1, ids[0, i]] for i in range(len(prefix), ids.shape[1])))


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / name).read_text().splitlines()]


def by_document(result: TaskResult, metric: str) -> list[float]:
    return [row["value"] for row in result.documents.to_pylist() if row["metric"] == metric]


@pytest.mark.parametrize("task", ["opposites", "continuations"])
def test_progress_counts_requests_whether_they_are_judged_or_generated(evaluator: Evaluator, task: str) -> None:
    told: list[tuple[int, int]] = []
    evaluator.evaluate(TaskRequest(task), progress=lambda done, total: told.append((done, total)))
    (total,) = {total for _, total in told}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)
    assert len(told) > 1


def test_progress_of_shared_prefixes_is_told_and_forgotten(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokens = HfTokenModel(model, batch_size=4, max_length=512)
    sharing = Evaluator(model, tokenizer, include_path=str(TASKS), batch_size=4, seed=3, tokens=tokens)
    told: list[tuple[int, int]] = []
    sharing.evaluate(TaskRequest("opposites"), progress=lambda done, total: told.append((done, total)))
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]
    before = len(told)
    sharing.evaluate(TaskRequest("opposites"))
    assert len(told) == before


def test_accuracy_follows_from_the_models_log_likelihoods(
    evaluator: Evaluator, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    correct, correct_by_length = [], []
    for document in read("opposites_test.jsonl"):
        prompt = f"The opposite of {document['word']} is"
        nats = [log_likelihood(model, tokenizer, prompt, f" {choice}") for choice in document["choices"]]
        per_character = [value / len(choice) for value, choice in zip(nats, document["choices"], strict=True)]
        correct.append(float(nats.index(max(nats)) == document["answer"]))
        correct_by_length.append(float(per_character.index(max(per_character)) == document["answer"]))

    result = evaluator.evaluate(TaskRequest("opposites"))

    assert by_document(result, "acc") == correct
    assert by_document(result, "acc_norm") == correct_by_length
    acc, acc_norm = result.metrics
    assert 0 < sum(correct) < len(correct)
    assert acc.value == pytest.approx(sum(correct) / len(correct))
    assert acc.stderr == pytest.approx(math.sqrt(acc.value * (1 - acc.value) / (len(correct) - 1)))
    assert (acc.primary, acc_norm.primary) == (False, True)
    assert (acc.num_documents, acc.num_fewshot, acc.higher_is_better) == (10, 0, True)


def test_rolling_perplexity_follows_from_the_models_log_likelihoods(
    evaluator: Evaluator, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = [document["text"] for document in read("passages_test.jsonl")]
    nats = [log_likelihood(model, tokenizer, "", text) for text in texts]
    words = [len(text.split()) for text in texts]

    result = evaluator.evaluate(TaskRequest("passages"))

    primary = result.metrics[0]
    assert (primary.metric, primary.primary, primary.higher_is_better) == ("word_perplexity", True, False)
    assert primary.value == pytest.approx(math.exp(-sum(nats) / sum(words)), rel=1e-4)
    expected = [math.exp(-value / count) for value, count in zip(nats, words, strict=True)]
    assert by_document(result, "word_perplexity") == pytest.approx(expected, rel=1e-4)


def test_generated_text_is_compared_with_the_target(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    texts = ["Ask the ferryman", "Read the letter"]
    answers = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")
        generated = model.generate(**ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
        answers.append(tokenizer.decode(generated[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    documents = [{"text": texts[0], "answer": answers[0]}, {"text": texts[1], "answer": answers[1] + "?"}]
    (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps(document) for document in documents))
    (tmp_path / "asked.yaml").write_text(
        "task: asked\ndataset_path: json\ndataset_kwargs: {data_files: {test: asked.jsonl}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: text\ndoc_to_target: answer\n"
        "generation_kwargs: {until: ['no such text'], max_gen_toks: 4, do_sample: false}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    evaluator = Evaluator(model, tokenizer, include_path=str(tmp_path), batch_size=1, seed=0)
    assert by_document(evaluator.evaluate(TaskRequest("asked")), "exact_match") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("opposites", "opposites: document 0 has the log-likelihood nan"),
        ("passages", "passages: document 0 has the log-likelihood nan"),
        ("continuations", "continuations: text was generated from logits that are not finite"),
    ],
)
def test_a_task_with_numbers_that_are_not_finite_has_none_itself_and_the_tensor_is_named(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[3, 4] = math.nan
    evaluator = Evaluator(broken, tokenizer, include_path=str(TASKS), batch_size=4, seed=3)
    metrics = evaluator.evaluate(TaskRequest(task)).metrics
    assert all(math.isnan(row.value) and row.stderr is None for row in metrics)
    assert f"{what}: model.layers.1.mlp.down_proj.weight holds NaN or infinity" in caplog.text
    assert "the task counts for nothing" in caplog.text


def test_limit_takes_the_first_documents_unchanged(evaluator: Evaluator) -> None:
    whole = evaluator.evaluate(TaskRequest("opposites", num_fewshot=2))
    part = evaluator.evaluate(TaskRequest("opposites", num_fewshot=2, limit=4))
    assert part.metrics[0].num_documents == 4
    assert part.metrics[0].num_fewshot == 2
    hashes = part.documents.select(["doc_id", "doc_hash", "prompt_hash"])
    assert hashes.equals(whole.documents.select(["doc_id", "doc_hash", "prompt_hash"]).slice(0, hashes.num_rows))


def test_chat_template_and_system_instruction_reach_the_prompt(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = CHAT_TEMPLATE
    try:
        evaluator = Evaluator(
            model,
            tokenizer,
            include_path=str(TASKS),
            batch_size=4,
            seed=3,
            apply_chat_template=True,
            system_instruction="Be brief.",
        )
    finally:
        tokenizer.chat_template = None
    result = evaluator.evaluate(TaskRequest("opposites_first", limit=1))
    (document, *_) = read("opposites_test.jsonl")
    prompt = (
        "<system>Be brief.<user>The opposite of hot is<assistant>cold<user>The opposite of big is<assistant>small"
        f"<user>The opposite of {document['word']} is<assistant>"
    )
    requests = json.dumps([[prompt, choice] for choice in document["choices"]])
    assert result.documents["prompt_hash"][0].as_py() == hashlib.sha256(requests.encode()).hexdigest()


def primary_rows(result: TaskResult) -> set[tuple[str, str]]:
    return {(row.task, row.metric) for row in result.metrics if row.primary}


def test_a_group_counts_by_its_aggregate_and_otherwise_by_its_members(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(TaskRequest("collection"))
    assert primary_rows(result) == {("all_opposites", "acc"), ("passages", "word_perplexity")}
    values = {(row.task, row.metric): row for row in result.metrics}
    group = values["all_opposites", "acc"]
    assert group.value == pytest.approx(
        (values["opposites", "acc"].value + values["opposites_shouted", "acc"].value) / 2
    )
    assert (group.num_documents, group.num_fewshot, group.higher_is_better) == (20, 0, True)


def test_a_tag_counts_by_its_tasks(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(TaskRequest("word_tasks"))
    assert primary_rows(result) == {
        ("opposites", "acc_norm"),
        ("opposites_shouted", "acc"),
        ("passages", "word_perplexity"),
    }


def test_metrics_of_a_whole_task_have_no_value_per_document(
    evaluator: Evaluator, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluator.evaluate(TaskRequest("continuations"))
    assert by_document(result, "chrf") == [None, None, None]
    (chrf,) = [row for row in result.metrics if row.metric == "chrf"]
    assert chrf.stderr is not None
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "it/s" not in printed.err


SCRIPT = """
import sys, pathlib
import pyarrow.parquet as pq, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.harness import Evaluator
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel
saved, tasks, out = sys.argv[1:4]
torch.set_num_threads(1)
model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
evaluator = Evaluator(model, tokenizer, include_path=tasks, batch_size=4, seed=3)
for name in ("continuations", "collection", "opposites"):
    result = evaluator.evaluate(TaskRequest(name, num_fewshot=2 if name == "opposites" else None))
    pq.write_table(result.documents, f"{out}/{name}.parquet")
    pathlib.Path(out, name).write_text(repr((result.metrics, result.raw)))
"""


def test_another_process_gives_the_same_bytes(
    evaluator: Evaluator, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "model", TASKS, elsewhere],
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "datasets"), "PYTHONHASHSEED": "1"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for request in (TaskRequest("opposites", 2), TaskRequest("collection"), TaskRequest("continuations")):
            result = evaluator.evaluate(request)
            pq.write_table(result.documents, tmp_path / "here.parquet")
            assert (elsewhere / f"{request.name}.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
            assert (elsewhere / request.name).read_text() == repr((result.metrics, result.raw))
    finally:
        torch.set_num_threads(threads)


def test_results_name_no_folder_of_this_machine(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(TaskRequest("opposites_shouted"))
    assert str(TASKS) not in json.dumps(result.raw)
    assert "opposites_test.jsonl" in json.dumps(result.raw)


@pytest.mark.parametrize("batch_size", ["auto", "8", 0, True])
def test_batch_size_must_be_a_number(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: Any
) -> None:
    with pytest.raises(UserError, match=r"evaluation\.batch_size"):
        Evaluator(model, tokenizer, include_path=None, batch_size=batch_size, seed=0)


def test_tokenizers_that_cannot_serve_are_refused(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="no chat template"):
        Evaluator(model, tokenizer, include_path=None, batch_size=1, seed=0, apply_chat_template=True)
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UserError, match="neither a BOS nor an EOS"):
        Evaluator(model, endless, include_path=None, batch_size=1, seed=0)


def test_more_shots_than_examples_is_a_clear_error(evaluator: Evaluator) -> None:
    with pytest.raises(UserError, match=r"num_fewshot is 7, but there are 6 examples"):
        evaluator.evaluate(TaskRequest("opposites", num_fewshot=7))
