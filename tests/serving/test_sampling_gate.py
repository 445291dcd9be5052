"""The gate of sampling with drafts: how often it stops an engine that is right, and every way of being wrong."""

import numpy as np
import pytest

from drop_ray.serving.engine import Drafted
from drop_ray.serving.sampling_gate import LEAST_KEPT, LEVEL, judge

TARGET = (0.4, 0.3, 0.2, 0.1)
PROMPTS, SAMPLES, LENGTH = 2, 256, 3
KEPT = Drafted(1000, (995, 990))


def continuations(seed, *places):
    """Tokens of all prompts, of which those at a place are of its distribution."""
    generator = np.random.default_rng(seed)
    chosen = places or (TARGET,) * LENGTH
    columns = [generator.choice(4, (PROMPTS, SAMPLES), p=shares) for shares in chosen]
    return np.stack(columns, axis=-1).tolist()


def test_an_engine_that_samples_as_the_target_does_passes_at_the_stated_rate():
    held = [judge(0.8, KEPT, continuations(2 * i), continuations(2 * i + 1), i).holds for i in range(100)]
    # Of a hundred one is refused on average; of six and more the probability is 0.0005.
    assert sum(held) > 100 * (1 - LEVEL) - 5


def test_what_it_found_is_stated():
    found = judge(0.8, KEPT, continuations(0), continuations(1), 0)
    assert (found.temperature, found.tokens, found.samples, found.tests) == (0.8, 2, SAMPLES, PROMPTS * (LENGTH - 1))
    assert found.kept == pytest.approx((0.995, 990 / 995))
    assert found.reasons == ()


def test_a_bias_at_one_place_is_refused_with_the_figures():
    biased = continuations(1, TARGET, TARGET, (0.6, 0.2, 0.15, 0.05))
    found = judge(0.8, KEPT, continuations(0), biased, 0)
    assert not found.holds
    (reason,) = found.reasons
    assert "distributed otherwise than without a draft: the smallest of 4 p-values is" in reason
    assert found.smallest_p < LEVEL / found.tests


def test_the_first_token_comes_with_the_prompt_and_says_nothing_of_drafts():
    other = continuations(1, (0.0, 0.0, 0.0, 1.0), TARGET, TARGET)
    assert judge(0.8, KEPT, continuations(0), other, 0).holds


@pytest.mark.parametrize(
    ("drafted", "kept"),
    [
        (Drafted(1000, (36, 0)), (0.036, 0.0)),
        (Drafted(1000, (990, 900)), (0.99, 900 / 990)),
        (Drafted(1000, (0, 0)), (0.0, 0.0)),
        (Drafted(0, (0, 0)), (0.0, 0.0)),
    ],
)
def test_drafts_of_the_model_itself_that_are_thrown_away_are_refused(drafted, kept):
    found = judge(1.0, drafted, continuations(0), continuations(1), 0)
    assert found.kept == pytest.approx(kept)
    assert any("drafted for itself" in reason for reason in found.reasons)


def test_the_bound_itself_is_enough():
    found = judge(1.0, Drafted(1000, (int(1000 * LEAST_KEPT),)), continuations(0), continuations(1), 0)
    assert found.kept == (LEAST_KEPT,)
    assert found.holds
