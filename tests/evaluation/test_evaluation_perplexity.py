"""Perplexity on token samples: the definition, an analytic case, standard errors, bad input."""

import math
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.perplexity import evaluate_perplexity
from drop_ray.evaluation.result import TaskResult

VOCABULARY = 61


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def token_ids() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (5, 12), generator=torch.Generator().manual_seed(1))


def values(result: TaskResult) -> dict[str, float]:
    return {metric.metric: metric.value for metric in result.metrics}


def test_nll_is_the_mean_of_what_each_token_costs_given_its_prefix(
    model: LlamaForCausalLM, token_ids: torch.Tensor
) -> None:
    costs = []
    with torch.no_grad():
        for sample in token_ids:
            for position in range(1, len(sample)):
                logits = model(input_ids=sample[None, :position]).logits[0, -1].double()
                costs.append(float(torch.logsumexp(logits, 0) - logits[sample[position]]))

    result = evaluate_perplexity(model, token_ids, 2, "held_out")

    mean = sum(costs) / len(costs)
    assert values(result) == pytest.approx({"token_perplexity": math.exp(mean), "nll": mean}, rel=1e-5)
    documents = result.documents.to_pylist()
    nll = [row["value"] for row in documents if row["metric"] == "nll"]
    assert nll == pytest.approx([sum(costs[first : first + 11]) / 11 for first in range(0, 55, 11)], rel=1e-5)
    assert {row["value"] for row in documents if row["metric"] == "tokens"} == {11.0}


def test_uniform_logits_have_the_vocabulary_as_perplexity(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    torch.nn.init.zeros_(model.lm_head.weight)
    result = evaluate_perplexity(model, token_ids, 5, "held_out")
    primary, nll = result.metrics
    assert primary.primary
    assert not nll.primary
    assert primary.value == pytest.approx(VOCABULARY, rel=1e-6)
    assert primary.stderr == pytest.approx(0.0, abs=1e-6)
    assert primary.higher_is_better is False


def test_standard_errors_come_from_the_spread_over_samples(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    result = evaluate_perplexity(model, token_ids, 5, "held_out")
    nll = torch.tensor([row["value"] for row in result.documents.to_pylist() if row["metric"] == "nll"])
    stderr = float(nll.double().std() / 5**0.5)
    perplexity = values(result)["token_perplexity"]
    assert [metric.stderr for metric in result.metrics] == pytest.approx([perplexity * stderr, stderr])
    alone = evaluate_perplexity(model, token_ids[:1], 5, "held_out")
    assert [metric.stderr for metric in alone.metrics] == [None, None]


def test_batch_size_only_groups(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    one, all_at_once = (values(evaluate_perplexity(model, token_ids, size, "held_out")) for size in (1, 5))
    assert one == pytest.approx(all_at_once, rel=1e-6)


def test_progress_counts_batches(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    told: list[tuple[int, int]] = []
    evaluate_perplexity(model, token_ids[:3], 2, "text", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_documents_are_identified_by_their_tokens(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    hashes = evaluate_perplexity(model, token_ids, 5, "held_out").documents["doc_hash"].to_pylist()
    flipped = evaluate_perplexity(model, token_ids.flip(0), 5, "held_out").documents["doc_hash"].to_pylist()
    assert len(set(hashes)) == 5
    assert flipped == hashes[::-1]


@pytest.mark.parametrize(("shape", "batch_size"), [((0, 12), 1), ((3, 1), 1), ((12,), 1), ((3, 12), 0)])
def test_impossible_input_is_refused(model: LlamaForCausalLM, shape: tuple[int, ...], batch_size: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        evaluate_perplexity(model, torch.zeros(shape, dtype=torch.int64), batch_size, "held_out")


def test_the_package_alone_loads_neither_torch_nor_lm_eval() -> None:
    code = "import sys, drop_ray.evaluation; print(sorted({'torch', 'lm_eval', 'transformers'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bad_weight_is_named_with_the_first_sample_that_meets_it(
    model: LlamaForCausalLM, token_ids: torch.Tensor
) -> None:
    token_ids[:3] = token_ids[:3].clamp(max=59)
    token_ids[3, 2] = 60
    with torch.no_grad():
        model.model.embed_tokens.weight[60] = math.nan
    with pytest.raises(
        NotFiniteError, match=r"held_out: the log-likelihood of sample 3 is not finite: model.embed_tok"
    ):
        evaluate_perplexity(model, token_ids, 2, "held_out")


def test_a_layer_that_overflows_in_float16_is_named(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight.fill_(60000)
    match = "sample 0 is not finite: the residual state after layer 1 leaves the range of float16"
    with pytest.raises(NotFiniteError, match=match):
        evaluate_perplexity(model.half(), token_ids, 2, "held_out")


def test_a_perplexity_that_no_number_holds_is_refused(model: LlamaForCausalLM, token_ids: torch.Tensor) -> None:
    with torch.no_grad():
        model.lm_head.weight.mul_(1e6)
    with pytest.raises(NotFiniteError, match="nats per token, whose exponential is infinite"):
        evaluate_perplexity(model, token_ids, 2, "held_out")
