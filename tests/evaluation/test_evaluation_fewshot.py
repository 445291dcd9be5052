"""Few-shot examples belong to a document: prompts do not depend on which documents are evaluated, or in which order."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.evaluation.tasks.fewshot import document_seed, seed_by_document

TASKS = Path(__file__).parents[1] / "support" / "evaluation_tasks"
NUM_DOCUMENTS = 10


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def opposites(cache: None) -> Any:
    task = Catalog(str(TASKS)).load("opposites")["tasks"]["opposites"]
    seed_by_document(task, 7)
    return task


@pytest.fixture(scope="module")
def prompts(opposites: Any) -> list[str]:
    return [opposites.fewshot_context(document, num_fewshot=3) for document in opposites.eval_docs]


@given(order=st.lists(st.integers(0, NUM_DOCUMENTS - 1), max_size=2 * NUM_DOCUMENTS))
@settings(max_examples=30, deadline=None)
def test_any_subset_in_any_order_gives_the_same_prompts(opposites: Any, prompts: list[str], order: list[int]) -> None:
    documents = opposites.eval_docs
    assert [opposites.fewshot_context(documents[index], num_fewshot=3) for index in order] == [
        prompts[index] for index in order
    ]


def test_documents_draw_different_examples(prompts: list[str]) -> None:
    assert len(prompts) == NUM_DOCUMENTS
    assert all(prompt.count("The opposite of") == 4 for prompt in prompts)
    assert len({prompt.rpartition("\n\n")[0] for prompt in prompts}) > NUM_DOCUMENTS // 2


def test_first_n_sampler_stays(cache: None) -> None:
    task = Catalog(str(TASKS)).load("opposites_first")["tasks"]["opposites_first"]
    seed_by_document(task, 7)
    contexts = [task.fewshot_context(document, num_fewshot=2) for document in task.eval_docs]
    assert {context.rpartition("\n\n")[0] for context in contexts} == {
        "The opposite of hot is cold\n\nThe opposite of big is small"
    }


def test_seed_depends_on_seed_task_and_content_but_not_on_key_order() -> None:
    document = {"word": "hot", "answer": 1}
    same = document_seed(0, "opposites", {"answer": 1, "word": "hot"})
    assert document_seed(0, "opposites", document) == same
    others = [
        document_seed(1, "opposites", document),
        document_seed(0, "other", document),
        document_seed(0, "opposites", {"word": "hot", "answer": 2}),
    ]
    assert len({same, *others}) == 4
