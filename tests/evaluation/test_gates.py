"""The damage gates: what is asked is what is meant, for any tokenizer, and answered as a known model answers it."""

import re

import pytest
from gate_models import RuleModel, look_up, not_finite
from tiny_models import make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from drop_ray.config.gates import GatesConfig
from drop_ray.demo import MODEL_FOLDER
from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.gates import arithmetic, battery, brackets, copying, needle, repetition
from drop_ray.evaluation.gates.gate import Item
from drop_ray.evaluation.gates.result import read_answers
from drop_ray.evaluation.gates.writer import Writer
from drop_ray.evaluation.tokens.token_model import Likelihood
from drop_ray.models.location import load_tokenizer

DEMO = load_tokenizer(MODEL_FOLDER)
BYTES = make_tokenizer()
CLOSING = {")": "(", "]": "[", "}": "{"}


def beginning_with_bos():
    """A tokenizer of bytes that puts <bos> before a text and <eos> behind it."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 0)]
    )
    return tokenizer


def of_words(*words):
    """A tokenizer that knows whole words only, and writes others as one token that stands for nothing."""
    known = {"<unk>": 0, **{word: number for number, word in enumerate(words, 1)}}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<unk>")


TOKENIZERS = {"demo": DEMO, "bytes": BYTES, "bos": beginning_with_bos()}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def writer_of(name):
    return Writer(TOKENIZERS[name], len(TOKENIZERS[name]))


def read(name, ids):
    return TOKENIZERS[name].decode(ids, skip_special_tokens=True)


@every_tokenizer
def test_a_needle_stands_once_in_a_text_of_the_wanted_length_and_its_rivals_nowhere(name):
    for length in (300, 700):
        gate = needle.needle_gate(writer_of(name), 0, 12, length)
        places = []
        for item in gate.items:
            text = read(name, item.context)
            who, kind = re.search(r"Question: What does (\w+) have\? Answer: (\w+) has a$", text).groups()
            right, *wrong = (read(name, candidate) for candidate in item.candidates)
            assert who == kind
            assert text.count(f" {who} has a{right}") == 1
            assert not any(one.rstrip(".") in text for one in wrong)
            # A straw has 8 words at most: where each byte is a token, some 50 may be left.
            assert length - 60 < item.longest <= length
            places.append(text.index(f"{who} has a") / len(text))
        assert min(places) < 0.3
        assert max(places) > 0.6
        assert len({item.context for item in gate.items}) == 12


@every_tokenizer
def test_sums_are_right_and_their_rivals_are_other_numbers_of_two_digits(name):
    gate = arithmetic.arithmetic_gate(writer_of(name), 0, 60)
    for item in gate.items:
        *solved, (first, sign, second, _) = re.findall(
            r"(\d\d) ([+-]) (\d\d) =(?: (\d\d)\.)?", read(name, item.context)
        )
        assert len(solved) == arithmetic.SOLVED
        for one, how, other, result in solved:
            assert int(result) == int(one) + (1 if how == "+" else -1) * int(other)
        numbers = [int(re.fullmatch(r" (\d\d)\.", read(name, candidate))[1]) for candidate in item.candidates]
        assert numbers[0] == int(first) + (1 if sign == "+" else -1) * int(second)
        assert len({*numbers}) == arithmetic.CANDIDATES


@pytest.mark.parametrize("result", range(10, 100))
def test_every_result_has_rivals_enough(result):
    assert len(arithmetic.near_misses(result)) >= arithmetic.CANDIDATES - 1
    assert result not in arithmetic.near_misses(result)


def open_brackets(text):
    """Brackets that are still open, and whether every closing one closes the last that was."""
    found = []
    for bracket in text.replace(" ", ""):
        if bracket in CLOSING.values():
            found.append(bracket)
        elif not found or found.pop() != CLOSING[bracket]:
            return None
    return found


@every_tokenizer
def test_only_the_right_bracket_closes_what_is_open(name):
    gate = brackets.brackets_gate(writer_of(name), 0, 60)
    last_opened = 0
    for item in gate.items:
        *complete, asked = read(name, item.context).split(",")
        assert [open_brackets(one) for one in complete] == [[]] * brackets.COMPLETE
        right, *wrong = (read(name, candidate) for candidate in item.candidates)
        assert open_brackets(asked + right) is not None
        assert [open_brackets(asked + one) for one in wrong] == [None, None]
        opened = [bracket for bracket in asked if bracket in CLOSING.values()]
        last_opened += CLOSING[right.strip()] == opened[-1]
    # To close what was opened last, right or wrong, is no better than guessing among three.
    assert last_opened / len(gate.items) < 0.55
    assert gate.chance == pytest.approx(1 / 3)


@every_tokenizer
def test_a_row_is_to_be_gone_on_with(name):
    gate = copying.copying_gate(writer_of(name), 0, 20)
    for item in gate.items:
        begin = len(writer_of(name).beginning)
        row, again = item.context[begin : begin + copying.ROW], item.context[begin + copying.ROW :]
        assert again + item.candidates[0] == row[: copying.SHOWN + copying.ASKED]
        assert len({*row}) == copying.ROW
    assert gate.chance == 0


def test_what_begins_a_text_stands_before_every_prompt_and_nothing_behind_it():
    writer = writer_of("bos")
    assert writer.beginning == (1,)
    made = [
        *(
            gate.items[0].context
            for gate in (needle.needle_gate(writer, 0, 1, 400), brackets.brackets_gate(writer, 0, 1))
        ),
        repetition.RepetitionGate(writer, 0, 1, 16, ()).prompts[0],
    ]
    assert all(ids[0] == 1 and 0 not in ids and ids.count(1) == 1 for ids in made)
    assert Writer(None, 100, begin=7).beginning == (7,)
    assert writer_of("demo").beginning == ()


def test_a_larger_number_of_items_begins_with_the_smaller_and_another_seed_has_others():
    writer = writer_of("demo")
    for make in (arithmetic.arithmetic_gate, brackets.brackets_gate, copying.copying_gate):
        few, many, others = make(writer, 0, 8), make(writer, 0, 12), make(writer, 1, 8)
        assert many.items[:8] == few.items
        assert others.items != few.items


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ((), 0),
        ((1, 2, 3), 0),
        ((1, 2, 3, 4), 0),
        ((1, 1, 1, 1, 1), 1 / 2),
        ((1, 2) * 4, 3 / 5),  # 12 21 12 21 12: two runs, five times
        ((1, 2, 3, 4, 5, 1, 2, 3, 4), 1 / 6),
    ],
)
def test_repeated_share_by_hand(tokens, share):
    assert repetition.repeated_share(tokens) == pytest.approx(share)


def test_loops_and_early_stops_are_told_apart():
    texts = iter([(5,) * 16, tuple(range(10, 26)), (5, 6, 7, 0), (5, 6, 7, 8, 0), (5, 6, 7)])
    gate = repetition.RepetitionGate(writer_of("demo"), 0, 5, 16, (0,))
    loops, stops = gate.ask(RuleModel(text=lambda prompt: next(texts)))
    assert loops.right == (False, True, True, True, True)
    # The fifth is short and has no end: an engine that stopped for its length is not one that stops early.
    assert stops.right == (True, True, False, True, True)
    assert stops.measures == (16, 16, 4, 5, 3)


def test_a_tie_is_not_right_and_a_single_answer_must_be_greedy():
    one, two = Item((1,), ((2,), (3,))), Item((1,), ((2,),))
    assert one.is_right([Likelihood(-1.0, False), Likelihood(-2.0, True)])
    assert not one.is_right([Likelihood(-1.0, True), Likelihood(-1.0, True)])
    assert two.is_right([Likelihood(-90.0, True)])
    assert not two.is_right([Likelihood(-0.1, False)])


CONFIG = GatesConfig(num_items=8, needle_lengths=(300, 5000), generated_tokens=16)


def test_a_model_that_looks_back_passes_what_can_be_looked_up():
    answers = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(look_up, text=lambda prompt: range(16)))
    shares = {one.gate: one.share for one in answers.results}
    assert shares["needle-300"] == shares["needle-5000"] == shares["copying"] == 1
    assert shares["repetition"] == shares["early-stop"] == 1
    assert [*shares] == ["needle-300", "needle-5000", "arithmetic", "brackets", "copying", "repetition", "early-stop"]


def test_no_request_is_longer_than_the_model_and_what_would_be_is_skipped_and_said():
    model = RuleModel(look_up, text=lambda prompt: (3,), max_length=320)
    answers = battery.ask(CONFIG, writer_of("demo"), (0,), model)
    assert max(len(request.context) + len(request.target) for request in model.asked) <= 320
    (skipped,) = answers.skipped
    assert (skipped.gate, skipped.title) == ("needle-5000", "needle at 5,000 tokens")
    assert skipped.reason == "it is longer than the 320 tokens that the model is evaluated with"
    tiny = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(max_length=20))
    assert tiny.results == ()
    assert "takes 24 tokens" in tiny.skipped[-1].reason


def test_a_needle_that_does_not_fit_its_length_is_skipped():
    config = GatesConfig(num_items=8, needle_lengths=(64,), generated_tokens=16)
    answers = battery.ask(config, writer_of("bytes"), (0,), RuleModel())
    assert re.fullmatch(r"needle and question alone have up to \d+ tokens", answers.skipped[0].reason)


def test_a_tokenizer_without_digits_or_brackets_is_asked_the_rest():
    words = " ".join(needle.texts()).lower().replace(".", " . ").replace("?", " ? ").replace(":", " : ").split()
    tokenizer = of_words(*dict.fromkeys(words), *(f"w{number}" for number in range(40)))
    answers = battery.ask(CONFIG, Writer(tokenizer, len(tokenizer)), (0,), RuleModel(look_up))
    assert {one.gate for one in answers.results} >= {"needle-300", "copying", "repetition"}
    assert [(one.gate, one.reason) for one in answers.skipped] == [
        ("arithmetic", "the tokenizer cannot write '12 + 35 = 47. 98 - 60 = 38.'"),
        ("brackets", "the tokenizer cannot write '( [ ] { } ), { ( ) }'"),
    ]


def test_without_a_tokenizer_tokens_are_asked_and_text_is_skipped():
    writer = Writer(None, 200, special={0, 1}, why_not="the folder has no tokenizer")
    model = RuleModel(look_up)
    answers = battery.ask(CONFIG, writer, (0,), model)
    assert [one.gate for one in answers.results] == ["copying", "repetition", "early-stop"]
    assert {one.reason for one in answers.skipped} == {"the folder has no tokenizer"}
    assert not {0, 1} & {token for request in model.asked for token in request.context + request.target}


def test_a_vocabulary_that_is_too_small_is_said():
    answers = battery.ask(CONFIG, Writer(None, 20), (), RuleModel())
    assert answers.results == ()
    assert answers.skipped[-1].reason == "there are 20 ordinary tokens, and it takes 32"


def test_ordinary_tokens_are_words_without_added_and_special_ones():
    ordinary = [DEMO.decode([token]) for token in writer_of("demo").ordinary]
    assert len(ordinary) > 300
    assert all(re.fullmatch(r" [A-Za-z]{2,}", text) for text in ordinary)
    # The tests' tokenizer has letters only: all but <eos> and <bos>, and no row that the embedding lacks.
    assert Writer(BYTES, 100).ordinary == list(range(2, 100))


def test_numbers_that_are_not_finite_are_a_fault_and_no_answer():
    answers = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(not_finite, text=lambda prompt: (3,)))
    faults = {one.gate: one.fault for one in answers.results}
    assert faults["copying"] == "8 of 8 log-likelihoods are not finite (nan)"
    assert faults["brackets"] == "24 of 24 log-likelihoods are not finite (nan)"

    def fails(prompt):
        raise NotFiniteError("layer 3 gives NaN")

    answers = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(text=fails))
    assert answers.results[-1].fault == "layer 3 gives NaN"


def test_answers_are_read_again_as_they_were():
    answers = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(look_up, text=lambda prompt: (3,), max_length=320))
    assert read_answers(answers.to_json().encode(), answers.items()) == answers
    broken = battery.ask(CONFIG, writer_of("demo"), (0,), RuleModel(not_finite, max_length=320))
    assert read_answers(broken.to_json().encode(), broken.items()) == broken
