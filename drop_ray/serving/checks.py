"""Runs the gate on a loaded engine: against the project's own forward pass, and the KV cache that it must have."""

from dataclasses import asdict, replace
from typing import Any

from drop_ray.serving import gate
from drop_ray.serving.engine import Engine, EngineFacts, EngineSettings, Prompts, PromptScores
from drop_ray.serving.spec import BenchSpec, Side, Start
from drop_ray.serving.workloads import draw_prompts

# Number of random prompts, to which those of the text are added; tokens of each; tokens of a greedy continuation.
NUM_PROMPTS, PROMPT_TOKENS, GREEDY_TOKENS = 4, 128, 16

Greedy = tuple[tuple[int, ...], ...]


def prompt_length(model_len: int, seq_len: int) -> int:
    """Tokens of each of the gate's prompts, given the engine's limit and the length of the calibration samples."""
    return min(PROMPT_TOKENS, model_len - GREEDY_TOKENS, seq_len)


class Checks:
    """The gate of one benchmark. The references run first, and their memory is free again before any engine starts."""

    def __init__(self, spec: BenchSpec, start: Start):
        self._spec, self._start = spec, start
        self._random = draw_prompts(spec.tokens, NUM_PROMPTS, len(spec.text[0]), spec.serving.seed, "gate")
        self._prompts: Prompts = [*self._random, *spec.text]
        self._expected: dict[Side, tuple[PromptScores, Greedy | None]] = {"base": self._reference("base")}
        self._expected["variant"] = self._expected["base"] if spec.control else self._reference("variant")

    def check(self, side: Side, engine: Engine) -> tuple[EngineFacts, dict[str, Any]]:
        """What the engine has, and how close it is to the reference. GateError if it is not close enough."""
        settings, who = self._spec.settings(side), f"the {side}'s engine ({self._spec.serving.engine})"
        scores, greedy = self._expected[side]
        facts = engine.facts()
        gate.check_kv(who, facts, self._expected_kv(settings))
        found = gate.check_scores(who, settings.dtype, engine.score_prompts(self._prompts), scores)
        if greedy is not None:
            gate.check_greedy(who, engine.generate(self._random, GREEDY_TOKENS).tokens, greedy)
        return facts, {
            "dtype": settings.dtype,
            "tolerances": asdict(gate.TOLERANCES[settings.dtype]),
            **found,
            "greedy_equal": None if greedy is None else True,
        }

    def _reference(self, side: Side) -> tuple[PromptScores, Greedy | None]:
        settings = replace(self._spec.settings(side), kind="reference")
        reference = self._start(settings, f"the {side}'s reference")
        try:
            reference.wait()
            # In 16 bits two tokens may be equally probable but for rounding, and either is right.
            greedy = reference.greedy(self._random, GREEDY_TOKENS) if settings.dtype == "float32" else None
            return reference.score_prompts(self._prompts), greedy
        finally:
            reference.close()

    def _expected_kv(self, settings: EngineSettings) -> gate.ExpectedKv:
        size, drops = self._spec.size, settings.drops
        layers = tuple(layer for layer in range(size.num_layers) if layer not in drops.attn)
        # Layers with windows of several widths share the blocks in groups, by rules of the engine's own.
        is_uniform = len({size.windows[layer] for layer in layers}) == 1
        bytes_per_token = size.kv_bytes_per_token(drops) // self._spec.kv_shards
        return gate.ExpectedKv(layers, bytes_per_token, settings.kv_cache_bytes if is_uniform else None)
