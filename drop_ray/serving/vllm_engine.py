"""Runs vLLM in this process on a base checkpoint with drop lists. engine_process.py sets the environment beforehand."""

import re
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vllm
from vllm import LLM, SamplingParams

from drop_ray.models.location import has_tokenizer
from drop_ray.serving.engine import (
    Completed,
    Completion,
    Drafted,
    EngineFacts,
    EngineSettings,
    Generation,
    Prompts,
    PromptScores,
    RequestTiming,
    Scores,
)
from drop_ray.serving.speculation import speculation
from drop_ray.serving.vllm_answers import complete, score
from drop_ray.serving.vllm_private import (
    cache_config,
    draft_model,
    is_of_draft,
    kv_cache_specs,
    num_kv_cache_groups,
    num_weights,
)

# Tokens that an engine computes at a time in the evaluation.
EVALUATION_STEP = 2048
LAYER = re.compile(r"layers\.(\d+)\.")
# A scale for each output, as drop_ray's own. The name `fp8` is only for checkpoints that are stored so, since 0.32.
FP8_AT_LOAD = "fp8_per_channel"
# Counters of vLLM, the second one by position.
STEPS, ACCEPTED = "vllm:spec_decode_num_drafts", "vllm:spec_decode_num_accepted_tokens_per_pos"


class VllmEngine:
    """A vLLM engine. For benchmarks it has no prefix caching, since prompts are repeated there."""

    def __init__(self, settings: EngineSettings):
        self._device = settings.device
        self._llm = LLM(**_arguments(settings))

    def facts(self) -> EngineFacts:
        cache = cache_config(self._llm)
        ranks: list[_WorkerFacts] = self._llm.collective_rpc(_worker_facts)
        rank = ranks[0]
        # Layers with windows share blocks with others, in groups. vLLM computes how many tokens the blocks hold at the
        # largest length of requests.
        tokens = cache.num_gpu_blocks * cache.block_size if rank.kv_groups == 1 else cache.kv_cache_size_tokens
        return EngineFacts(
            version=vllm.__version__,
            device=rank.device,
            kv_tokens=tokens if rank.kv_layers else None,
            kv_blocks=cache.num_gpu_blocks if rank.kv_layers else None,
            block_size=cache.block_size,
            kv_layers=rank.kv_layers,
            kv_bytes_per_token=rank.kv_bytes,
            weights_bytes=sum(rank.weights_bytes for rank in ranks),
            draft_weights_bytes=sum(rank.draft_weights_bytes for rank in ranks),
            draft_kv_bytes_per_token=rank.draft_kv_bytes,
        )

    def generate(self, prompts: Prompts, output_length: int) -> Generation:
        return self.sample(prompts, output_length, 0)

    def sample(self, prompts: Prompts, output_length: int, temperature: float) -> Generation:
        # Without `min_tokens`, which would forbid an end of text that the model predicts, and so change the tokens.
        sampling = SamplingParams(temperature=temperature, max_tokens=output_length, ignore_eos=True, detokenize=False)
        start = time.perf_counter()
        outputs = self._run(prompts, sampling)
        wall = time.perf_counter() - start
        tokens = tuple(tuple(output.outputs[0].token_ids) for output in outputs)
        if {len(row) for row in tokens} != {output_length}:
            raise RuntimeError(f"asked for {output_length} tokens, vLLM made {[len(row) for row in tokens]}")
        return Generation(wall, tuple(_timing(output.metrics, output_length) for output in outputs), tokens)

    def score_prompts(self, prompts: Prompts) -> PromptScores:
        sampling = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        logprobs, top = [], []
        for prompt, output in zip(prompts, self._run(prompts, sampling), strict=True):
            # The first token has no prediction. Each other one comes with the most probable token at its position.
            for token, found in zip(prompt[1:], output.prompt_logprobs[1:], strict=True):
                logprobs.append(found[token].logprob)
                top.append(next(other for other, entry in found.items() if entry.rank == 1))
        return PromptScores(np.array(logprobs, np.float64), np.array(top, np.int64))

    def score(self, contexts: Prompts, targets: Prompts) -> Scores:
        return score(self._llm, contexts, targets)

    def complete(self, prompts: Prompts, completion: Completion) -> Completed:
        return complete(self._llm, prompts, completion)

    def drafted(self) -> Drafted:
        counters = {metric.name: metric for metric in self._llm.get_metrics() if metric.name in (STEPS, ACCEPTED)}
        return Drafted(counters[STEPS].value, tuple(counters[ACCEPTED].values))

    def peak_memory_bytes(self) -> int:
        if self._device == "cpu":
            # The workers of tensor parallelism are separate processes, and each reports its own peak.
            return int(sum(self._llm.collective_rpc(_peak_host_bytes)))
        return int(sum(self._llm.collective_rpc(_peak_device_bytes)))

    def _run(self, prompts: Prompts, sampling: SamplingParams) -> list[Any]:
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs: list[Any] = self._llm.generate(requests, sampling, use_tqdm=False)
        return outputs


def _arguments(settings: EngineSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": settings.folder,
        # Stop strings need one. They come from tasks, which a model without a tokenizer has none of.
        "skip_tokenizer_init": not (settings.evaluates and has_tokenizer(Path(settings.folder))),
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len + settings.evaluates,
        "max_num_seqs": settings.max_batch,
        "enforce_eager": settings.enforce_eager,
        "seed": settings.seed,
        "tensor_parallel_size": settings.tensor_parallel,
        "distributed_executor_backend": "uni" if settings.tensor_parallel == 1 else "mp",
        "enable_prefix_caching": settings.prefix_caching,
        "disable_log_stats": False,
        "kv_cache_dtype": settings.kv_cache_dtype,
    }
    if settings.fp8_at_load:
        arguments["quantization"] = FP8_AT_LOAD
    if settings.evaluates:
        # Prompts' log-probabilities take the logits of all tokens of a step, in float32, beside vLLM's own budget.
        arguments["max_num_batched_tokens"] = max(EVALUATION_STEP, settings.max_batch)
    if settings.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes
        # The budget decides the cache. With the default fraction, vLLM would refuse to start beside another engine.
        arguments["gpu_memory_utilization"] = 0.01
    if settings.drops != settings.own_drops:
        arguments["hf_overrides"] = {
            "drop_attn_list": list(settings.drops.attn),
            "drop_mlp_list": list(settings.drops.mlp),
        }
    if settings.draft is not None:
        arguments["speculative_config"] = speculation(settings.draft)
    return arguments


def _timing(metrics: Any, output_length: int) -> RequestTiming:
    decode = metrics.last_token_ts - metrics.first_token_ts
    tpot = decode / (output_length - 1) if output_length > 1 else None
    return RequestTiming(metrics.first_token_latency, tpot, metrics.first_token_latency + decode)


@dataclass(frozen=True)
class _WorkerFacts:
    """What one of vLLM's workers says about its memory."""

    weights_bytes: int
    """Bytes of its weights."""
    kv_bytes: int
    """KV-cache bytes of one token, in all layers."""
    kv_layers: tuple[int, ...]
    """Layers that have a KV cache."""
    kv_groups: int
    """Number of groups of layers that share blocks."""
    device: str
    """Name of the device."""
    draft_weights_bytes: int
    """Bytes of its weights of the draft."""
    draft_kv_bytes: int
    """KV-cache bytes of one token, in the draft's layers."""


def _worker_facts(worker: Any) -> _WorkerFacts:
    """The facts of one of vLLM's workers, in which this function runs."""
    found, draft = kv_cache_specs(worker), draft_model(worker)
    specs = {name: spec for name, spec in found.items() if not is_of_draft(name)}
    of_draft = [spec for name, spec in found.items() if is_of_draft(name)]
    layers = sorted(int(match.group(1)) for name in specs if (match := LAYER.search(name)))
    return _WorkerFacts(
        weights_bytes=_weights_bytes(worker.get_model()),
        kv_bytes=_kv_bytes(specs.values()),
        kv_layers=tuple(layers),
        kv_groups=num_kv_cache_groups(worker),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        draft_weights_bytes=_weights_bytes(draft) if draft is not None else 0,
        draft_kv_bytes=_kv_bytes(of_draft),
    )


def _kv_bytes(specs: Iterable[Any]) -> int:
    """Bytes of one token in the layers of these caches."""
    return sum(spec.page_size_bytes // spec.block_size for spec in specs)


def _weights_bytes(model: torch.nn.Module) -> int:
    sizes: dict[int, int] = {}  # by parameter: some are tied
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            count = num_weights(module, parameter) if name == "weight" else parameter.numel()
            sizes[id(parameter)] = count * parameter.element_size()
    return sum(sizes.values())


def _peak_host_bytes(_: Any) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _peak_device_bytes(_: Any) -> int:
    return int(torch.cuda.max_memory_reserved())
