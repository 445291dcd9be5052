"""Perplexity of a model on packed token samples, computed directly from its logits.

A loaded causal language model and token ids go in. The same kind of result as of an lm-eval task comes out, with
samples as documents, so that the report treats both alike.
"""

import hashlib
import math
from collections.abc import Callable
from functools import partial

import torch
from transformers import PreTrainedModel

from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.result import DocumentValue, MetricValue, TaskRequest, TaskResult, document_table
from drop_ray.evaluation.tokens.streams import in_order
from drop_ray.evaluation.tokens.token_model import ENGINE_CAUSE, Continuation, TokenModel
from drop_ray.models.finite import fault_of
from drop_ray.text.progress import ignore_progress


def evaluate_perplexity(
    model: PreTrainedModel,
    token_ids: torch.Tensor,
    batch_size: int,
    name: str,
    streams: int = 1,
    progress: Callable[[int, int], None] = ignore_progress,
) -> TaskResult:
    """Negative log-likelihood, in nats, of tokens 1..seq_len-1 of each sample given the tokens before them.

    `token_ids` is int64 [num_samples, seq_len]. Log-probabilities are float32, their sums float64. The model is put in
    eval mode. `progress` is told how many batches of how many are done.

    Two metrics are reported. `nll` is the mean over tokens. Its standard error is that of the mean over samples, which
    have equal numbers of tokens. `token_perplexity` = exp(nll) is the primary metric. Its standard error is exp(nll) *
    stderr(nll), by the delta method. Documents carry `nll` (mean nats per token) and `tokens` (how many were
    predicted).

    Raises ValueError for an empty table, samples of fewer than 2 tokens or a batch size below 1. Raises NotFiniteError
    for NaN or infinity, with the sample and its cause.
    """
    check_samples(token_ids)
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    model.eval()
    batches = [partial(_batch_nll, model, batch) for batch in torch.split(token_ids, batch_size)]
    found = []
    for totals_of_batch in in_order(batches, streams):
        found.append(totals_of_batch)
        progress(len(found), len(batches))
    totals = torch.cat(found)
    return perplexity_result(
        totals, token_ids, batch_size, name, lambda index: fault_of(model, token_ids[index : index + 1])
    )


def engine_perplexity(tokens: TokenModel, token_ids: torch.Tensor, batch_size: int, name: str) -> TaskResult:
    """As `evaluate_perplexity`, of a model in an engine."""
    check_samples(token_ids)
    requests = [Continuation((sample[0],), tuple(sample[1:])) for sample in token_ids.tolist()]
    totals = torch.tensor([-answer.total for answer in tokens.likelihoods(requests)], dtype=torch.float64)
    return perplexity_result(totals, token_ids, batch_size, name, lambda _: ENGINE_CAUSE)


def check_samples(token_ids: torch.Tensor) -> None:
    """ValueError unless there are samples that predict anything."""
    if token_ids.ndim != 2 or token_ids.shape[0] < 1 or token_ids.shape[1] < 2:
        raise ValueError(f"token_ids must be [samples >= 1, tokens >= 2], not {list(token_ids.shape)}")


def perplexity_result(
    totals: torch.Tensor, token_ids: torch.Tensor, batch_size: int, name: str, cause: Callable[[int], str]
) -> TaskResult:
    """The result from the summed nats of each sample, float64 [num_samples].

    `cause` says why a sample's are not finite.
    """
    for index, total in enumerate(totals.tolist()):
        if not math.isfinite(total):
            raise NotFiniteError(f"{name}: the log-likelihood of sample {index} is not finite: {cause(index)}")
    num_samples, num_predicted = token_ids.shape[0], token_ids.shape[1] - 1
    means = totals / num_predicted
    nll = means.mean()
    stderr = means.std(correction=1) / math.sqrt(num_samples) if num_samples > 1 else None
    perplexity = nll.exp()
    if not perplexity.isfinite():
        raise NotFiniteError(
            f"{name}: {float(nll):.6g} nats per token, whose exponential is infinite; the model is not usable without "
            "these layers, or is not trained"
        )

    def metric(kind: str, value: torch.Tensor, error: torch.Tensor | None, primary: bool) -> MetricValue:
        return MetricValue(
            task=name,
            metric=kind,
            filter="none",
            value=float(value),
            stderr=None if error is None else float(error),
            higher_is_better=False,
            num_documents=num_samples,
            num_fewshot=None,
            primary=primary,
        )

    metrics = [
        metric("token_perplexity", perplexity, None if stderr is None else perplexity * stderr, True),
        metric("nll", nll, stderr, False),
    ]
    rows = []
    for index, (sample, mean) in enumerate(zip(token_ids, means.tolist(), strict=True)):
        content = hashlib.sha256(sample.to("cpu", torch.int64).numpy().astype("<i8").tobytes()).hexdigest()
        rows += [
            DocumentValue(name, index, content, content, "nll", "none", mean),
            DocumentValue(name, index, content, content, "tokens", "none", float(num_predicted)),
        ]
    raw = {"samples": num_samples, "seq_len": token_ids.shape[1], "batch_size": batch_size}
    return TaskResult(TaskRequest(name), metrics, document_table(rows), raw)


@torch.inference_mode()
def _batch_nll(model: PreTrainedModel, batch: torch.Tensor) -> torch.Tensor:
    """Summed nats of each sample of [batch, seq_len]: float64 [batch], on the CPU."""
    batch = batch.to(model.device)
    logits = model(input_ids=batch, use_cache=False).logits
    # One sample at a time: float32 logits of a whole batch can be larger than the model.
    return torch.stack([_sample_nll(sample, row[1:]) for sample, row in zip(logits[:, :-1], batch, strict=True)])


def _sample_nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    chosen = log_probabilities.gather(-1, targets.to(logits.device)[:, None])
    return -chosen.double().sum().cpu()
