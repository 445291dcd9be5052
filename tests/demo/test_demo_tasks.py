"""The demo tasks as lm-eval loads them: from any working directory, with the committed rows."""

import hashlib

import pytest
from lm_eval.tasks import TaskManager

from drop_ray.demo import TASKS_FOLDER


@pytest.fixture(scope="module")
def manager():
    return TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)


def loaded_task(manager, name):
    return manager.load([name])["tasks"][name]


@pytest.mark.parametrize(("name", "choices"), [("demo_recall", 4), ("demo_agreement", 2), ("demo_arithmetic", 4)])
def test_a_question_task_loads_from_anywhere(manager, name, choices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = loaded_task(manager, name)
    rows = list(task.test_docs())
    assert len(rows) == 400
    assert len(list(task.fewshot_docs())) == 100
    assert task.doc_to_text(rows[0]) == rows[0]["context"]
    assert task.doc_to_choice(rows[0]) == rows[0]["choices"]
    assert len(rows[0]["choices"]) == choices
    assert int(task.doc_to_target(rows[0])) == rows[0]["answer"]


def test_few_shot_examples_and_the_question_read_as_one_text(manager):
    task = loaded_task(manager, "demo_arithmetic")
    row = next(iter(task.test_docs()))
    example = next(iter(task.fewshot_docs()))
    task.sampler.rnd.seed(0)
    prompt = task.fewshot_context(row, num_fewshot=2)
    assert prompt.endswith(". " + row["context"])
    assert "\n" not in prompt
    assert example["choices"][example["answer"]].endswith(".")


def test_the_perplexity_task_has_the_held_out_documents(manager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = loaded_task(manager, "demo_perplexity")
    rows = list(task.test_docs())
    assert len(rows) == 60
    assert task.doc_to_target(rows[0]) == rows[0]["text"]
    assert set(task.aggregation()) == {"word_perplexity", "byte_perplexity", "bits_per_byte"}


def test_the_code_of_the_tasks_is_as_it_was():
    """Its bytes are part of what identifies an evaluation: another comment would have every user evaluate anew."""
    code = (TASKS_FOLDER / "utils.py").read_bytes()
    assert hashlib.sha256(code).hexdigest() == "d5a3ea27ee37e2c219e5074de1310c571d128097a73bea1cebd0551f79c33a7a"
