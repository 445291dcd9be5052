"""Engines without a model, as fast as they are told to be: what the benchmark does with them is what is tested."""

from dataclasses import dataclass, field

import numpy as np
from plain_size import KV_BYTES, NUM_LAYERS, model_size

from drop_ray.serving.engine import EngineError, EngineFacts, EngineSettings, Generation, PromptScores, RequestTiming
from drop_ray.serving.spec import BenchSpec

BLOCK = 16


def settings(drops, budget=NUM_LAYERS * KV_BYTES * BLOCK * 10, dtype="float32"):
    """budget: ten blocks of 16 tokens of the whole model, unless said otherwise."""
    own = type(drops)()
    return EngineSettings("vllm", "folder", drops, own, dtype, "cpu", 64, 8, budget, threads=1)


def bench_spec(serving, base, variant, **fields):
    return BenchSpec(
        **{
            "serving": serving,
            "base": settings(base),
            "variant": settings(variant),
            "size": model_size(),
            "vocab_size": 50,
            "tokens": range(2, 50),
            "text": [[3] * 20, [4] * 20],
            "kv_shards": 1,
            "control": base == variant,
            **fields,
        }
    )


@dataclass
class FakeEngine:
    """Log-probabilities and tokens depend on the prompts alone, time on the kept attention layers.

    dies_at: number of the calls of `generate` that end it.
    """

    settings: EngineSettings
    log: list
    who: str
    dies_at: set = field(default_factory=set)
    rate_of: object = None
    shift: float = 0.0
    alive: bool = True
    calls: int = 0

    def wait(self):
        return self

    def facts(self):
        kept = tuple(layer for layer in range(NUM_LAYERS) if layer not in self.settings.drops.attn)
        blocks = self.settings.kv_cache_bytes // (len(kept) * KV_BYTES * BLOCK)
        return EngineFacts("0", "fake", blocks * BLOCK, blocks, BLOCK, kept, len(kept) * KV_BYTES, 1000 + len(kept))

    def generate(self, prompts, output_length):
        self.calls += 1
        if not self.alive or self.calls in self.dies_at:
            self.alive = False
            raise EngineError(f"the engine of {self.who} died; its last lines:\n  out of luck")
        self.log.append((self.who, len(prompts), output_length, prompts[0][0]))
        step = 0.1 + 0.1 * len(self.facts().kv_layers)
        seconds = step * (self.rate_of(len(prompts)) if self.rate_of else 1)
        wall = seconds * output_length
        timing = RequestTiming(seconds, seconds if output_length > 1 else None, wall)
        tokens = tuple(tuple(prompt[-1] for _ in range(output_length)) for prompt in prompts)
        return Generation(wall, (timing,) * len(prompts), tokens)

    def greedy(self, prompts, output_length):
        return tuple(tuple(prompt[-1] for _ in range(output_length)) for prompt in prompts)

    def score_prompts(self, prompts):
        ids = np.array([token for prompt in prompts for token in prompt[1:]])
        return PromptScores(-ids / 10 + self.shift, ids, np.full(len(ids), 5.0))

    def peak_memory_bytes(self):
        return 5000

    def close(self):
        self.alive = False
        self.log.append((self.who, "closed"))
