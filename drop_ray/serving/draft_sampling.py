"""Asks engines what the sampling gate judges: some prompts, continued many times without a draft and with the model as
its own."""

import logging
from dataclasses import replace

from drop_ray.serving.draft_bench import DraftSpec
from drop_ray.serving.engine import Drafted, DraftSettings, EngineSettings
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.sampling_gate import SamplingGate, Tokens, judge
from drop_ray.serving.spec import Start

logger = logging.getLogger(__name__)

# With so many, tokens that are drawn from another distribution at one position of seven are seen.
NUM_PROMPTS, SAMPLES = 4, 512
# Continuations at a time: they are short, and many.
BATCH = 16


def run_sampling_gate(spec: DraftSpec, number: int, start: Start = EngineProcess) -> SamplingGate:
    """Judge sampling with that many drafted tokens, at the temperature of `spec`, whose draft folder is the base's."""
    prompts = spec.prompts[:NUM_PROMPTS]
    settings = replace(spec.base, max_batch=max(BATCH, spec.base.max_batch))
    without, _ = _continued(spec, settings, number, start)
    # Another seed: of the same one the samples need not be independent.
    draft = DraftSettings(spec.draft_folder, number, samples=True)
    drafting, drafted = _continued(spec, replace(settings, draft=draft, seed=settings.seed + 1), number, start)
    assert drafted is not None
    logger.info("%d prompts, %d continuations of each: with a draft and without", len(prompts), SAMPLES)
    return judge(spec.temperature, drafted, without, drafting, spec.serving.seed)


def _continued(
    spec: DraftSpec, settings: EngineSettings, number: int, start: Start
) -> tuple[list[Tokens], Drafted | None]:
    """Continuations of each prompt, and what became of drafted tokens, if any were drafted."""
    prompts = [prompt for prompt in spec.prompts[:NUM_PROMPTS] for _ in range(SAMPLES)]
    engine = start(settings, "the base as its own draft" if settings.draft else "the base")
    try:
        engine.wait()
        # The first token comes with the prompt, the others from a step that keeps all that is drafted.
        tokens = engine.sample(prompts, number + 2, spec.temperature).tokens
        drafted = engine.drafted() if settings.draft else None
    finally:
        engine.close()
    return [tokens[place : place + SAMPLES] for place in range(0, len(tokens), SAMPLES)], drafted
