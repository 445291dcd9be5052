"""The benchmark of one draft: the base without it and with it, on the same prompts in pairs, for numbers of tokens.

Every pair has prompts of its own, which both sides continue greedily. What a side generates is compared at the same
time, so that a speed is published only where the tokens are the base's own. Where tokens are drawn, none are compared:
`draft_sampling` has judged their distribution before.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from drop_ray.config import ServingConfig
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.serving import gate
from drop_ray.serving.checks import Gate
from drop_ray.serving.draft_identity import Identity, allowed_margin, compare
from drop_ray.serving.engine import (
    Drafted,
    DraftSettings,
    Engine,
    EngineError,
    EngineFacts,
    EngineSettings,
    Generation,
    Prompts,
)
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.measures import measures
from drop_ray.serving.pairs import alternating
from drop_ray.serving.ratios import paired_ratio
from drop_ray.serving.spec import SIDES, Side, Start

logger = logging.getLogger(__name__)

# Output tokens of a warm-up: a prefill, and a step with drafted tokens.
WARM_UP_TOKENS = 2
RATES = {"speedup": "output_tokens_per_s", "decode_speedup": "decode_tokens_per_s"}
"""What the two speedups of a row are of."""


@dataclass(frozen=True)
class DraftSpec:
    """What to measure, and on what."""

    serving: ServingConfig
    """The `serving` section of the config, with its drafts."""
    base: EngineSettings
    """How to build the engine of the base."""
    draft: EngineSettings | None
    """The draft as a model of its own; None for the control, the base against itself."""
    draft_folder: str
    """The draft's checkpoint, as vLLM is to load it; empty for the control."""
    size: ModelSize
    """Size of the base, in the dtype that it is served in."""
    tokens: Sequence[int]
    """Token ids that the gate's random prompts are drawn from."""
    text: Prompts
    """Samples of a text for the gate, all of one length."""
    prompts: Prompts
    """Prompts of the pairs, of one length, `drafts.batch_size` for each pair."""
    kv_shards: int
    """Number of devices that a token's KV cache is divided among."""
    temperature: float = 0.0
    """At which tokens are drawn, which a gate must have allowed; 0 is greedy."""


@dataclass(frozen=True)
class _Pair:
    """What one pair has found."""

    sides: Mapping[Side, Generation]
    """What both sides generated."""
    identity: Identity | None
    """Whether it is the same; None where it is drawn."""
    drafted: Drafted | None
    """What became of drafted tokens; None for the control."""


def run_drafts(spec: DraftSpec, numbers: Sequence[int], start: Start = EngineProcess) -> Iterator[dict[str, Any]]:
    """The content of draft.json, for each number of drafted tokens in turn; for the control once, with 0.

    The base's engine is checked first. GateError if it computes another model, or if the draft keeps another KV cache
    than it should; a draft that changes the base's tokens is a result, without a speedup.
    """
    with _Engines(spec, start) as engines:
        agreement: float | None = None
        for number in numbers:
            pairs = engines.pairs(number)
            if agreement is None and spec.draft is not None and not spec.temperature:
                engines.make_room()
                agreement = _agreement(spec, start, [token for pair in pairs for token in pair.sides["base"].tokens])
            yield _result(spec, number, pairs, agreement, engines.facts)


class _Engines:
    """The engines of the base and of the base with the draft: both at once if resident, or one after the other."""

    def __init__(self, spec: DraftSpec, start: Start):
        self._spec, self._start = spec, start
        self._gate = Gate(spec.tokens, spec.text, spec.serving.seed, spec.size, spec.kv_shards, start)
        self._expected = self._gate.expect(spec.base, "the base's")
        self._opened: dict[Side, tuple[int, Engine]] = {}
        self.facts: dict[Side, EngineFacts] = {}

    def __enter__(self) -> "_Engines":
        return self

    def __exit__(self, *_: object) -> None:
        for side in tuple(self._opened):
            self._close(side)

    def pairs(self, number: int) -> list[_Pair]:
        """All pairs with that many drafted tokens."""
        drafts, found = self._spec.serving.drafts, []
        assert drafts is not None
        logger.info("%d drafted tokens: %d pairs", number, self._spec.serving.pairs)
        for place, order in enumerate(alternating(self._spec.serving.pairs)):
            prompts = self._spec.prompts[place * drafts.batch_size : (place + 1) * drafts.batch_size]
            try:
                found.append(self._pair(prompts, order, number))
            except EngineError as error:
                # One death may be a fault of the machine, a second one is the engine's own.
                logger.warning("pair %d is repeated: %s", place + 1, error)
                found.append(self._pair(prompts, order, number))
        return found

    def make_room(self) -> None:
        """Close the engine with the draft, and the base's too if only one is to be loaded."""
        self._close("variant")
        if self._spec.serving.mode == "reload":
            self._close("base")

    def _pair(self, prompts: Prompts, order: Sequence[Side], number: int) -> _Pair:
        drafts, sides, drafted = self._spec.serving.drafts, {}, None
        assert drafts is not None
        for side in order:
            engine = self._engine(side, number)
            before = engine.drafted() if side == "variant" and number else None
            sides[side] = generated(engine, prompts, drafts.output, self._spec.temperature)
            if before is not None:
                drafted = engine.drafted() - before
        if self._spec.temperature:
            return _Pair(sides, None, drafted)
        in_8_bits = self._expected.scores.in_8_bits
        allowed = allowed_margin(self._spec.base.dtype, self._spec.base.device, in_8_bits)
        own, other = sides["base"].tokens, sides["variant"].tokens
        return _Pair(sides, compare(partial(self._engine, "base", number), prompts, own, other, allowed), drafted)

    def _engine(self, side: Side, number: int) -> Engine:
        """The engine of a side, warm. The other one is closed first, if only one is to be loaded."""
        wanted = number if side == "variant" else 0
        held = self._opened.get(side)
        if held is not None and held[0] == wanted and held[1].alive:
            return held[1]
        self._close(side)
        if self._spec.serving.mode == "reload":
            self.make_room()
        settings = self._spec.base
        if wanted:
            draft = DraftSettings(self._spec.draft_folder, wanted, samples=self._spec.temperature > 0)
            settings = replace(settings, draft=draft)
        process = self._start(settings, f"the base with {wanted} drafted tokens" if wanted else "the base")
        self._opened[side] = wanted, process
        engine: Engine = process.wait()
        self._check(side, wanted, engine)
        drafts = self._spec.serving.drafts
        assert drafts is not None
        generated(engine, self._spec.prompts[: drafts.batch_size], WARM_UP_TOKENS, self._spec.temperature)
        return engine

    def _check(self, side: Side, number: int, engine: Engine) -> None:
        if side == "base" and side not in self.facts:
            self._gate.check(self._spec.base, "the base's", engine, self._expected)
        facts = engine.facts()
        if number and self._spec.draft is not None:
            _check_draft_kv(self._spec, self._spec.draft.drops, facts)
        self.facts[side] = facts

    def _close(self, side: Side) -> None:
        if held := self._opened.pop(side, None):
            held[1].close()


def generated(engine: Engine, prompts: Prompts, length: int, temperature: float) -> Generation:
    """What an engine continues the prompts with: greedily, or drawn."""
    return engine.sample(prompts, length, temperature) if temperature else engine.generate(prompts, length)


def _check_draft_kv(spec: DraftSpec, drops: DropLists, facts: EngineFacts) -> None:
    expected = spec.size.kv_bytes_per_token(drops) // spec.kv_shards
    if facts.draft_kv_bytes_per_token != expected:
        raise gate.GateError(
            f"the draft has another KV cache than predicted: {facts.draft_kv_bytes_per_token} bytes per token, "
            f"expected {expected}. Nothing of it is published."
        )


def _agreement(spec: DraftSpec, start: Start, generated: Sequence[Sequence[int]]) -> float:
    """The share of the base's own greedy tokens that are the draft's most probable ones, from one forward pass each."""
    assert spec.draft is not None
    reference = start(replace(spec.draft, kind="reference"), "the draft's reference")
    try:
        reference.wait()
        texts = [[*prompt, *tokens] for prompt, tokens in zip(spec.prompts, generated, strict=True)]
        top = reference.score_prompts(texts).top.reshape(len(texts), -1)
    finally:
        reference.close()
    output = len(generated[0])
    return float((top[:, -output:] == np.array(generated)).mean())


def _result(
    spec: DraftSpec,
    number: int,
    pairs: Sequence[_Pair],
    agreement: float | None,
    facts: Mapping[Side, EngineFacts],
) -> dict[str, Any]:
    serving, drafts = spec.serving, spec.serving.drafts
    assert drafts is not None
    compared = [pair.identity for pair in pairs if pair.identity is not None]
    identity = reduce(add, compared) if compared else None
    holds = identity is None or identity.holds
    drafted = _sum([pair.drafted for pair in pairs if pair.drafted is not None])
    found = {side: [measures(pair.sides[side], drafts.prompt) for pair in pairs] for side in SIDES}
    base, variant = facts["base"], facts["variant"]
    return {
        "tokens": number,
        "control": spec.draft is None,
        "engine": serving.engine,
        "engine_version": base.version,
        "device": base.device,
        "dtype": spec.base.dtype,
        "mode": serving.mode,
        "batch_size": drafts.batch_size,
        "prompt_tokens": drafts.prompt,
        "output_tokens": drafts.output,
        "temperature": spec.temperature,
        "kv_cache_dtype": spec.base.kv_cache_dtype,
        "prompts": len(pairs) * drafts.batch_size,
        "identical": identity.identical if identity else None,
        "margin": identity.margin if identity else None,
        "allowed_margin": identity.allowed if identity else None,
        "holds": holds,
        "agreement": agreement,
        "steps": drafted.steps if drafted else None,
        "acceptance": list(drafted.acceptance) if drafted else [],
        "tokens_per_step": drafted.tokens_per_step if drafted else None,
        **{name: _ratio(found, metric) if holds else None for name, metric in RATES.items()},
        "base_weights_bytes": base.weights_bytes,
        "draft_weights_bytes": variant.draft_weights_bytes,
        "base_kv_bytes_per_token": base.kv_bytes_per_token,
        "draft_kv_bytes_per_token": variant.draft_kv_bytes_per_token,
    }


def _ratio(found: Mapping[Side, Sequence[Mapping[str, float]]], metric: str) -> dict[str, Any]:
    base, variant = ([values[metric] for values in found[side]] for side in SIDES)
    ratio = paired_ratio(base, variant)
    medians = {"base": float(np.median(base)), "drafted": float(np.median(variant))}
    return {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "pairs": ratio.pairs, **medians}


def _sum(parts: Sequence[Drafted]) -> Drafted | None:
    if not parts:
        return None
    steps = sum(part.steps for part in parts)
    return Drafted(steps, tuple(map(sum, zip(*(part.accepted for part in parts), strict=True))))
