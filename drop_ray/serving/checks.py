"""Runs the gate on a loaded engine: against the project's own forward pass, and the KV cache that it must have."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from drop_ray.models.accounting import ModelSize
from drop_ray.serving import gate
from drop_ray.serving.engine import Engine, EngineFacts, EngineSettings, Prompts, PromptScores, first_scores
from drop_ray.serving.spec import BenchSpec, Side, Start
from drop_ray.serving.workloads import draw_prompts

# Number of random prompts, to which those of the text are added; tokens of each; tokens of a greedy continuation.
NUM_PROMPTS, PROMPT_TOKENS, GREEDY_TOKENS = 4, 128, 16

Greedy = tuple[tuple[int, ...], ...]


def prompt_length(model_len: int, seq_len: int) -> int:
    """Tokens of each of the gate's prompts, given the engine's limit and the length of the calibration samples."""
    return min(PROMPT_TOKENS, model_len - GREEDY_TOKENS, seq_len)


@dataclass(frozen=True)
class Expected:
    """The answers of a reference."""

    scores: PromptScores
    """Scores of the gate's prompts, and of the long one if there is one."""
    greedy: Greedy | None
    """Greedy continuations of the random prompts; None where rounding may exchange two tokens, as in 16 bits."""


class Gate:
    """What engines are asked before they are believed.

    `tokens` are those that random prompts are drawn from, `text` is prompts of one length, `size` is that of the base
    in the dtype of the engines, and `kv_shards` the number of devices that a token's KV cache is divided among. A
    `long` prompt of that many tokens is for engines that keep prefixes: its end is asked for twice.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        text: Prompts,
        seed: int,
        size: ModelSize,
        kv_shards: int,
        start: Start,
        long: int = 0,
    ):
        self._start, self._size, self._kv_shards = start, size, kv_shards
        self._random = draw_prompts(tokens, NUM_PROMPTS, len(text[0]), seed, "gate")
        self._prompts: Prompts = [*self._random, *text]
        self._long: Prompts = draw_prompts(tokens, 1, long, seed, "long gate") if long else []

    def expect(self, settings: EngineSettings, who: str) -> Expected:
        """The answers of the reference, which runs now, and whose memory is free again afterwards."""
        reference = self._start(replace(settings, kind="reference"), f"{who} reference")
        try:
            reference.wait()
            scores = reference.score_prompts([*self._prompts, *self._long])
            is_exact = settings.dtype == "float32" and not scores.in_8_bits
            return Expected(scores, reference.greedy(self._random, GREEDY_TOKENS) if is_exact else None)
        finally:
            reference.close()

    def check(
        self, settings: EngineSettings, who: str, engine: Engine, expected: Expected
    ) -> tuple[EngineFacts, dict[str, Any]]:
        """What the engine has, and how close it is to the reference. GateError if it is not close enough."""
        who = f"{who} engine ({settings.kind})"
        positions = sum(len(prompt) - 1 for prompt in self._prompts)
        scores, greedy = first_scores(expected.scores, positions), expected.greedy
        facts = engine.facts()
        gate.check_kv(who, facts, self._expected_kv(settings))
        found = gate.check_scores(who, settings.dtype, engine.score_prompts(self._prompts), scores)
        if greedy is not None:
            gate.check_greedy(who, engine.generate(self._random, GREEDY_TOKENS).tokens, greedy)
        for prompt in self._long:
            self._check_long(who, settings.dtype, engine, prompt, expected.scores, positions)
        return facts, {
            "dtype": settings.dtype,
            "tolerances": asdict(gate.tolerance_of(settings.dtype, scores.in_8_bits)),
            "in_8_bits": scores.in_8_bits,
            **found,
            "greedy_equal": None if greedy is None else True,
        }

    def _check_long(
        self, who: str, dtype: str, engine: Engine, prompt: Sequence[int], scores: PromptScores, start: int
    ) -> None:
        """The end of a prompt, first computed, then with what the first time left in the cache.

        start: place of its scores.
        """
        logprobs = scores.logprobs[start:]
        context, target = prompt[: -len(prompt) // 4], prompt[-len(prompt) // 4 :]
        for way in ("computed", "from its cache of prefixes"):
            (found,) = engine.score([context], [target]).scores
            expected = float(logprobs[-len(target) :].sum())
            gate.check_likelihood(f"{who}, {way},", dtype, found.total, expected, len(target), scores.in_8_bits)

    def _expected_kv(self, settings: EngineSettings) -> gate.ExpectedKv:
        size, drops = self._size, settings.drops
        layers = size.kv_layers(drops)
        # Layers that cache in several ways share the blocks in groups, by rules of the engine's own.
        budget = settings.kv_cache_bytes if size.is_uniform(drops) else None
        bytes_per_token = size.kv_bytes_per_token(drops) // self._kv_shards
        return gate.ExpectedKv(layers, bytes_per_token, budget, size.state_bytes(drops))


class Checks:
    """The gate of one benchmark. The references run first, and their memory is free again before any engine starts."""

    def __init__(self, spec: BenchSpec, start: Start):
        self._spec = spec
        self._gate = Gate(spec.tokens, spec.text, spec.serving.seed, spec.size, spec.kv_shards, start)
        self._expected: dict[Side, Expected] = {"base": self._gate.expect(spec.base, "the base's")}
        self._expected["variant"] = (
            self._expected["base"] if spec.control else self._gate.expect(spec.variant, "the variant's")
        )

    def check(self, side: Side, engine: Engine) -> tuple[EngineFacts, dict[str, Any]]:
        """What the engine has, and how close it is to the reference. GateError if it is not close enough."""
        return self._gate.check(self._spec.settings(side), f"the {side}'s", engine, self._expected[side])
