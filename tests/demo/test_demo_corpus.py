"""The demo corpus: deterministic, its splits disjoint, its answers right, the committed files its own."""

import itertools
import json
import random
import re
from pathlib import Path

import pytest

from drop_ray.demo import CALIBRATION_FILE, HELDOUT_FILE, TASKS_FOLDER
from drop_ray.demo.arithmetic import LARGEST, problem
from drop_ray.demo.corpus import documents
from drop_ray.demo.data_files import TASKS, TRAINING_DOCUMENTS, data_files
from drop_ray.demo.grammar import agreement_sentence
from drop_ray.demo.lexicon import JOBS, LANDMARKS, NAMES, NOUNS, PLACES, is_held_out
from drop_ray.demo.recall import recall_passage
from drop_ray.demo.task_rows import rows

DEMO_FOLDER = CALIBRATION_FILE.parent


def first_documents(seed, split, count):
    return list(itertools.islice(documents(seed, split), count))


def test_a_seed_gives_the_same_documents_and_another_seed_others():
    assert first_documents(5, "train", 50) == first_documents(5, "train", 50)
    assert not set(first_documents(5, "train", 50)) & set(first_documents(6, "train", 50))


def test_committed_files_are_what_the_generator_makes():
    for name, text in data_files().items():
        assert (DEMO_FOLDER / name).read_bytes().decode("ascii") == text, f"{name}: run the job with --data-only"


def committed_rows(file):
    return [json.loads(line) for line in (TASKS_FOLDER / file).read_text(encoding="ascii").splitlines()]


def test_no_held_out_document_and_no_question_is_in_the_training_stream():
    training = first_documents(0, "train", TRAINING_DOCUMENTS)
    heldout = [
        *(row["text"] for row in committed_rows(HELDOUT_FILE)),
        *(row["text"] for row in committed_rows("perplexity.jsonl")),
    ]
    assert len(heldout) > 110
    assert not set(heldout) & set(training)
    text = "\n".join(training)
    for name, _, _ in TASKS:
        questions = [row["context"] for row in committed_rows(f"{name}.jsonl")]
        assert len(questions) == 400
        assert not [context for context in questions if context in text]
        assert not set(questions) & {row["context"] for row in committed_rows(f"{name}_fewshot.jsonl")}


def stated_combinations(texts):
    """(name, place), (name, job) and number pairs that the documents state, read back from the text."""
    for text in texts:
        for name, place in re.findall(r"(\w+) lives in (\w+)\.", text):
            yield name, place
        for name, job in re.findall(r"(\w+) works as a (\w+)\.", text):
            yield name, job
        for name, color, thing in re.findall(r"(\w+) has a (\w+) (\w+)\.", text):
            yield from ((name, color), (name, thing))
        for first, second in re.findall(r"(\d+) plus (\d+)", text):
            yield tuple(sorted((first, second), key=int))
        for first, second in re.findall(r"has (\d+) \w+ and loses (\d+)", text):
            yield second, first


def test_every_combination_that_a_document_states_belongs_to_its_split():
    training = set(stated_combinations(first_documents(0, "train", 5_000)))
    heldout = set(stated_combinations(first_documents(0, "heldout", 5_000)))
    assert len(training) > 500
    assert len(heldout) > 100
    assert not training & heldout


def test_each_name_has_places_and_jobs_in_both_splits_and_each_noun_landmarks():
    for name, values in [*((n, PLACES) for n in NAMES), *((n, JOBS) for n in NAMES)]:
        assert not all(is_held_out(name, value) for value in values), name
    for landmark, _ in LANDMARKS:
        assert any(is_held_out(noun, landmark) for noun, _ in NOUNS), landmark


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_answer_of_a_recall_question_and_no_other_candidate_is_a_stated_fact(split):
    rng = random.Random(0)
    for _ in range(200):
        passage = recall_passage(rng, split, 5)
        assert all(fact in passage.text for fact in passage.facts)
        for question in passage.questions:
            assert len(set(question.candidates)) == 5
            asked = question.text.removeprefix("Who ").removesuffix("?")
            for candidate in question.candidates:
                claim = f"{question.lead} {candidate}." if question.lead else f"{candidate} {asked}."
                assert (claim in passage.facts) == (candidate == question.answer)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_arithmetic_answers_are_right_and_candidates_differ(split):
    rng = random.Random(0)
    for _ in range(500):
        item = problem(rng, split)
        first, second = map(int, re.findall(r"\d+", item.text))
        result = first + second if re.search("plus|finds", item.text) else first - second
        assert item.answer == str(result)
        assert 0 <= result <= 2 * LARGEST
        assert item.answer in item.candidates
        assert len(set(item.candidates)) == 4


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_right_form_agrees_with_the_first_noun(split):
    rng = random.Random(0)
    plural = {form for _, form in NOUNS}
    plural_forms = {"are", "were", "run", "sing", "sleep", "wait", "walk"}
    checked = 0
    for _ in range(500):
        sentence = agreement_sentence(rng, split)
        if not sentence.beginning.startswith("The "):
            continue
        subject = next(word for word in sentence.beginning.split() if any(word in forms for forms in NOUNS))
        assert (sentence.right in plural_forms) == (subject in plural)
        assert (sentence.wrong in plural_forms) != (subject in plural)
        checked += 1
    assert checked > 200


@pytest.mark.parametrize("name", [name for name, _, _ in TASKS])
def test_questions_differ_and_have_their_answers_at_every_position(name):
    questions = committed_rows(f"{name}.jsonl")
    assert len({row["context"] for row in questions}) == 400
    assert {row["answer"] for row in questions} == set(range(len(questions[0]["choices"])))
    assert all(len(set(row["choices"])) == len(row["choices"]) for row in questions)


def test_known_contexts_are_left_out_of_the_rows():
    def maker(rng, split):
        return {"context": str(rng.randrange(10)), "choices": ["a", "b"], "answer": 0}

    made = rows(maker, 0, "train", 7, known={"1", "2", "3"}.__contains__)
    assert {row["context"] for row in made} == set("0456789")


def test_the_generator_writes_one_line_of_ascii_per_document():
    for document in first_documents(3, "train", 500):
        assert document.isascii()
        assert "\n" not in document
        assert document.endswith(".")


def test_data_files_stay_small():
    sizes = {path.name: path.stat().st_size for path in Path(DEMO_FOLDER).glob("*.jsonl")}
    assert 290_000 < sizes["calibration.jsonl"] < 320_000
    assert 38_000 < sizes["heldout.jsonl"] < 45_000
