"""lm-eval's results with shared prefixes are those of its own code."""

import datasets
import pytest
import torch
from test_evaluation_harness import TASKS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from drop_ray.evaluation import TaskRequest
from drop_ray.evaluation.finite_model import FiniteModel, SharingModel
from drop_ray.evaluation.harness import Evaluator
from drop_ray.evaluation.tokens.hf_token_model import HfTokenModel

LENGTH = 512


@pytest.fixture(scope="module", autouse=True)
def _dataset_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def tokenizer():
    symbols = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<|end|>")


def make_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def evaluator(model, tokenizer, tokens):
    return Evaluator(model, tokenizer, include_path=str(TASKS), batch_size=4, seed=3, tokens=tokens)


def values(result):
    return [(row["doc_hash"], row["metric"], row["value"]) for row in result.documents.to_pylist()]


@pytest.mark.parametrize(
    "request_",
    [
        TaskRequest("opposites", 5),
        TaskRequest("opposites_first", 3),
        TaskRequest("passages"),
        TaskRequest("all_opposites"),
    ],
    ids=lambda request: request.name,
)
def test_results_are_those_of_lm_evals_own_code(tokenizer, request_):
    model = make_model()
    tokens = HfTokenModel(model, batch_size=4, max_length=LENGTH)
    own, shared = evaluator(model, tokenizer, None), evaluator(model, tokenizer, tokens)
    assert isinstance(shared._model, SharingModel)

    expected, found = own.evaluate(request_), shared.evaluate(request_)

    for (document, metric, value), (other, same, found_value) in zip(values(expected), values(found), strict=True):
        assert (other, same) == (document, metric)
        assert found_value == pytest.approx(value, rel=1e-5)
    assert [metric.value for metric in found.metrics] == pytest.approx([m.value for m in expected.metrics], rel=1e-5)
    assert tokens.counts.asked == own._model.counts.asked
    if request_.num_fewshot:
        assert tokens.counts.computed < 0.4 * tokens.counts.asked


def test_a_model_that_shares_nothing_is_computed_by_lm_evals_own_code(tokenizer):
    model = make_model()
    tokens = HfTokenModel(model, batch_size=4, max_length=LENGTH, shares=False)
    own = evaluator(model, tokenizer, tokens)
    assert type(own._model) is FiniteModel
    own.evaluate(TaskRequest("opposites"))
    assert tokens.counts.asked > 0


def test_weights_that_are_not_finite_are_named_as_before(tokenizer, caplog):
    model = make_model()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    result = evaluator(model, tokenizer, HfTokenModel(model, batch_size=4, max_length=LENGTH)).evaluate(
        TaskRequest("opposites")
    )
    assert all(metric.value != metric.value for metric in result.metrics)
    assert (
        "opposites: document 0 has the log-likelihood nan: model.layers.1.mlp.up_proj.weight holds NaN" in caplog.text
    )
