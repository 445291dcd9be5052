"""The benchmark of a draft with engines that have no model: what is compared, what is published, and what is not."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from fake_engine import FakeEngine, settings
from plain_size import KV_BYTES, model_size

from drop_ray.config import ServingConfig
from drop_ray.models.families import DropLists
from drop_ray.serving.draft_bench import DraftSpec, run_drafts
from drop_ray.serving.draft_identity import Identity, allowed_margin, compare
from drop_ray.serving.draft_sampling import run_sampling_gate
from drop_ray.serving.engine import Drafted, DraftSettings, Generation, PromptScores
from drop_ray.serving.gate import TOLERANCES_IN_8_BITS, GateError
from drop_ray.serving.speculation import speculation

BASE, HALF = DropLists(), DropLists(attn=(1, 2))
PROMPT, OUTPUT, BATCH, PAIRS = 12, 6, 2, 5


def serving(**fields):
    drafts = {"tokens": [1, 3], "prompt": PROMPT, "output": OUTPUT, "batch_size": BATCH}
    values = {"workloads": [{"prompt": 12, "output": 4}], "pairs": PAIRS, "drafts": drafts, **fields}
    return ServingConfig.model_validate(values)


def draft_spec(base=None, draft=HALF, **fields):
    base = base or settings(BASE)
    return DraftSpec(
        **{
            "serving": serving(),
            "base": base,
            "draft": None if draft is None else replace(base, drops=draft),
            "draft_folder": "" if draft is None else "draft",
            "size": model_size(),
            "tokens": range(2, 50),
            "text": [[3] * 20, [4] * 20],
            "prompts": [[number] * PROMPT for number in range(2, 2 + PAIRS * BATCH)],
            "kv_shards": 1,
            **fields,
        }
    )


@dataclass
class DraftingEngine(FakeEngine):
    """Every step keeps all drafted tokens but the last, takes as long as one without a draft, and may be wrong.

    wrong: the first tokens of prompts whose last generated token is another; shifts: of log-probabilities, by token.
    """

    wrong: tuple = ()
    draft_kv: int = 2 * KV_BYTES
    steps: int = 0

    def facts(self):
        has_draft = {"draft_weights_bytes": 700, "draft_kv_bytes_per_token": self.draft_kv}
        return replace(super().facts(), **(has_draft if self.settings.draft else {}))

    def generate(self, prompts, output_length):
        found = super().generate(prompts, output_length)
        if self.settings.draft is None:
            return found
        self.steps += len(prompts)
        tokens = [(*row[:-1], 49) if row[0] in self.wrong else row for row in found.tokens]
        faster = tuple(replace(one, tpot=one.tpot / 2 if one.tpot else None) for one in found.requests)
        return replace(found, wall=found.wall / 2, requests=faster, tokens=tuple(tokens))

    def sample(self, prompts, output_length, temperature):
        self.sampled = temperature
        return self.generate(prompts, output_length)

    def drafted(self):
        return Drafted(self.steps, (self.steps,) * (self.settings.draft.tokens - 1) + (0,))


class Engines:
    """Starts engines, and remembers which."""

    def __init__(self, **traits):
        self.log, self.started, self.traits = [], [], traits

    def __call__(self, wanted, who):
        self.started.append((who, wanted.draft.tokens if wanted.draft else 0))
        return DraftingEngine(wanted, self.log, who, **(self.traits if wanted.draft else {}))


def measured(spec=None, numbers=(1, 3), **traits):
    engines = Engines(**traits)
    return list(run_drafts(spec or draft_spec(), numbers, engines)), engines


def test_the_base_is_loaded_once_and_the_draft_for_each_number_of_tokens():
    found, engines = measured()
    assert [row["tokens"] for row in found] == [1, 3]
    loaded = [tokens for who, tokens in engines.started if "reference" not in who]
    assert loaded == [0, 1, 3]
    assert [who for who, _ in engines.started if "reference" in who] == [
        "the base's reference",
        "the draft's reference",
    ]
    closed = [entry for entry in engines.log if entry[1] == "closed"]
    assert len(closed) == len(engines.started)


def test_what_becomes_of_drafted_tokens_is_counted_without_the_warm_up():
    found, _ = measured()
    assert [row["steps"] for row in found] == [PAIRS * BATCH] * 2
    assert [row["acceptance"] for row in found] == [[0.0], [1.0, 1.0, 0.0]]
    assert [row["tokens_per_step"] for row in found] == [1.0, 3.0]
    assert found[0]["agreement"] == 1.0


def test_speedups_are_of_pairs_with_prompts_of_their_own():
    found, engines = measured(numbers=[3])
    for name in ("speedup", "decode_speedup"):
        assert found[0][name]["ratio"] == pytest.approx(2)
        assert found[0][name]["pairs"] == PAIRS
    timed = [entry for entry in engines.log if len(entry) == 4 and entry[2] == OUTPUT]
    assert [first for *_, first in timed] == [first for pair in range(2, 12, BATCH) for first in (pair, pair)]
    assert (found[0]["prompts"], found[0]["identical"], found[0]["margin"], found[0]["holds"]) == (10, 10, None, True)


def test_a_draft_that_changes_a_token_is_a_result_without_a_speedup():
    found, _ = measured(numbers=[1], wrong=(5, 6))
    assert (found[0]["identical"], found[0]["holds"]) == (8, False)
    assert found[0]["speedup"] is found[0]["decode_speedup"] is None
    # The fake scores a token by its number: 49 is (49 - 6) / 10 below 6, and further below 5.
    assert found[0]["margin"] == pytest.approx(4.4)


def test_the_control_measures_the_base_against_itself():
    found, engines = measured(draft_spec(draft=None), numbers=[0])
    assert found[0]["control"]
    assert found[0]["speedup"]["ratio"] == 1
    assert (found[0]["acceptance"], found[0]["steps"], found[0]["agreement"]) == ([], None, None)
    assert engines.started == [("the base's reference", 0), ("the base", 0), ("the base", 0)]


def test_reload_keeps_one_engine_at_a_time():
    found, engines = measured(draft_spec(serving=serving(mode="reload", pairs=PAIRS)), numbers=[1])
    current = None
    for entry in (entry for entry in engines.log if "reference" not in entry[0]):
        current = current or entry[0]
        assert entry[0] == current
        if entry[1] == "closed":
            current = None
    assert found[0]["speedup"]["ratio"] == pytest.approx(2)


def test_a_pair_whose_engine_dies_is_repeated():
    spec = draft_spec()
    calm, died = Engines(), Engines(dies_at={3})
    (expected,) = run_drafts(spec, [1], calm)

    def start(wanted, who):
        died.traits = {} if sum(tokens for _, tokens in died.started) else {"dies_at": {3}}
        return died(wanted, who)

    (found,) = run_drafts(spec, [1], start)
    assert found["speedup"] == expected["speedup"]
    assert [tokens for _, tokens in died.started].count(1) == 2


def test_a_draft_with_another_kv_cache_than_its_own_is_refused():
    with pytest.raises(GateError, match="another KV cache than predicted: 8 bytes per token, expected 16"):
        measured(draft_kv=KV_BYTES)


def test_memory_of_the_draft_stands_beside_that_of_the_base():
    (found,), _ = measured(numbers=[1])
    assert (found["draft_weights_bytes"], found["draft_kv_bytes_per_token"]) == (700, 2 * KV_BYTES)
    assert found["base_kv_bytes_per_token"] == 4 * KV_BYTES


class Scorer:
    """Scores the last token of a prompt by a table."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def score_prompts(self, prompts):
        self.asked += prompts
        return PromptScores(np.array([self.table[prompt[-1]] for prompt in prompts]), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("other", "allowed", "expected"),
    [
        ([7, 8, 9], 0.0, Identity(1, 1, None, 0.0)),
        ([7, 8, 5], 0.3, Identity(1, 0, 0.25, 0.3)),
        ([7, 8, 5], 0.2, Identity(1, 0, 0.25, 0.2)),
        ([7, 8, 5], 0.0, Identity(1, 0, 0.25, 0.0)),
    ],
)
def test_tokens_that_differ_are_scored_after_what_is_common(other, allowed, expected):
    scorer = Scorer({9: -1.0, 5: -1.25})
    found = compare(lambda: scorer, [[1, 2]], [[7, 8, 9]], [other], allowed)
    assert found.margin == pytest.approx(expected.margin) if expected.margin else found.margin is None
    assert (found.identical, found.holds) == (expected.identical, expected.identical == 1 or allowed == 0.3)
    assert scorer.asked == ([] if found.identical else [[1, 2, 7, 8, 9], [1, 2, 7, 8, 5]])


def test_equal_probabilities_do_not_excuse_a_token_in_float32_on_a_cpu():
    assert not Identity(1, 0, 0.0, allowed_margin("float32", "cpu")).holds
    assert not Identity(1, 0, float("nan"), allowed_margin("bfloat16", "cuda")).holds
    assert Identity(1, 0, 0.0, allowed_margin("float16", "cpu")).holds
    assert allowed_margin("float32", "cuda") < allowed_margin("bfloat16", "cuda")


def test_tokens_that_are_drawn_are_timed_and_not_compared():
    """What is wrong as a greedy token may be drawn: the gate of sampling has judged that before."""
    found, engines = measured(draft_spec(temperature=0.8), numbers=[2], wrong=(5, 6))
    assert (found[0]["temperature"], found[0]["holds"], found[0]["prompts"]) == (0.8, True, PAIRS * BATCH)
    assert found[0]["identical"] is found[0]["margin"] is found[0]["agreement"] is None
    assert found[0]["speedup"]["ratio"] == pytest.approx(2)
    assert found[0]["acceptance"] == [1.0, 0.0]
    assert [who for who, _ in engines.started if "reference" in who] == ["the base's reference"]


def test_only_a_draft_of_a_run_that_samples_draws_its_tokens():
    for temperature in (0.0, 0.8):
        settings_of = []

        def start(wanted, who, settings_of=settings_of):
            settings_of.append(wanted)
            return DraftingEngine(wanted, [], who)

        list(run_drafts(draft_spec(temperature=temperature), [1], start))
        (draft,) = {one.draft for one in settings_of if one.draft}
        assert draft.samples == (temperature > 0)
        assert ("draft_sample_method" in speculation(draft)) == draft.samples


@dataclass
class SamplingEngine(FakeEngine):
    """Draws tokens of four kinds; with a draft of other shares, and keeps a share of what is drafted.

    shares: of the kinds with a draft; kept: of 1000 steps.
    """

    shares: tuple = (0.4, 0.3, 0.2, 0.1)
    kept: int = 995

    def sample(self, prompts, output_length, temperature):
        shares = self.shares if self.settings.draft else SamplingEngine.shares
        generator = np.random.default_rng(self.settings.seed)
        self.log.append((len(prompts), output_length, temperature, self.settings))
        rows = generator.choice(4, (len(prompts), output_length), p=shares)
        return Generation(1.0, (), tuple(map(tuple, rows.tolist())))

    def drafted(self):
        return Drafted(1000, (self.kept,) * self.settings.draft.tokens)


def sampling_gate(**traits):
    log = []
    spec = draft_spec(draft=BASE, temperature=0.7)
    start = lambda wanted, who: SamplingEngine(wanted, log, who, **(traits if wanted.draft else {}))  # noqa: E731
    return run_sampling_gate(spec, 2, start), [entry for entry in log if len(entry) == 4]


def test_sampling_holds_where_the_base_as_its_own_draft_is_kept_and_distributed_alike():
    found, asked = sampling_gate()
    assert found.holds, found.reasons
    assert (found.temperature, found.tokens, found.tests) == (0.7, 2, 12)
    (one, other) = asked
    # Two drafted tokens, the one of the model itself, and the first, which comes with the prompt.
    assert one[:3] == other[:3] == (4 * 512, 4, 0.7)
    assert one[3].draft is None
    assert other[3].draft == DraftSettings("draft", 2, samples=True)
    assert one[3].seed != other[3].seed


def test_sampling_is_refused_where_either_is_wrong():
    few, _ = sampling_gate(kept=36)
    assert "3.6, 100.0 % were kept" in few.reasons[0]
    biased, _ = sampling_gate(shares=(0.6, 0.2, 0.1, 0.1))
    assert "distributed otherwise" in biased.reasons[0]
    assert (few.holds, biased.holds) == (False, False)


def test_a_token_may_be_another_where_something_is_in_8_bits():
    assert allowed_margin("float32", "cpu", "cache") == 2 * TOLERANCES_IN_8_BITS["cache"]["float32"].p99
    assert allowed_margin("float16", "cuda", "inputs") > allowed_margin("float16", "cuda")
