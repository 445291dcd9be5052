"""The requests that engines get: prompts of random tokens, in batches that grow until throughput saturates."""

import math
import random
from collections.abc import Collection, Sequence

# The share of throughput that doubling a batch must gain for a larger one to be tried.
MIN_GAIN = 0.05


def ordinary_tokens(vocab_size: int, special: Collection[int]) -> list[int]:
    """Token ids that prompts are drawn from: the model's own vocabulary without its special tokens."""
    return [token for token in range(vocab_size) if token not in special]


def draw_prompts(tokens: Sequence[int], num_prompts: int, length: int, *seeds: object) -> list[list[int]]:
    """Prompts of `length` tokens.

    Equal seeds give equal prompts, and a larger number of them begins with the smaller.
    """
    generator = random.Random("/".join(map(str, seeds)))
    return [generator.choices(tokens, k=length) for _ in range(num_prompts)]


def saturated(rates: Sequence[tuple[int, float]]) -> bool:
    """Whether the last of (batch size, tokens per second) gained too little over the one before it.

    The gain is that of a doubling: from 8 to 32, which doubles twice, the square root of the whole gain counts.
    """
    if len(rates) < 2:
        return False
    (batch, rate), (next_batch, next_rate) = rates[-2:]
    return bool((next_rate / rate) ** (1 / math.log2(next_batch / batch)) < 1 + MIN_GAIN)


def largest_batch(kv_tokens: int | None, block_size: int, request_tokens: int) -> int | None:
    """How many requests of `request_tokens` (prompt and output) fit in the KV cache at once, in whole blocks.

    None if any number fits.
    """
    if kv_tokens is None:
        return None
    return kv_tokens // (-(-request_tokens // block_size) * block_size)


def equal_memory_batch(batch: int, base_kv_tokens: int | None, variant_kv_tokens: int | None, fits: int | None) -> int:
    """The variant's batch in the memory that `batch` takes in the base: `batch` times the ratio of KV tokens.

    `fits` is the largest batch that the variant's KV cache holds. If a KV cache has no limit, the result is `batch`.
    """
    if not base_kv_tokens or not variant_kv_tokens:
        return batch
    scaled = batch * variant_kv_tokens // base_kv_tokens
    return scaled if fits is None else min(scaled, fits)
