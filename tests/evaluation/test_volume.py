"""Tokens of tasks: small cases that were counted by hand, and the real requests of tasks."""

from pathlib import Path

import pytest
import tiny_models

from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.counting import Counter
from drop_ray.evaluation.tasks.published_sizes import PUBLISHED, TaskSize
from drop_ray.evaluation.tasks.volume import TaskVolume, total, volume_of
from drop_ray.evaluation.tokens.token_model import Continuation

TASKS = Path(__file__).parents[1] / "support" / "evaluation_tasks"
EXAMPLES = tuple(range(100, 108))


def ask(context, *targets):
    return [Continuation(tuple(context), tuple(target)) for target in targets]


def volume(documents, block=4, fixed=False, num_documents=None):
    return volume_of(documents, num_documents=num_documents or len(documents), fixed_examples=fixed, block=block)


def numbers(found):
    return found.asked, found.alone, found.shared, found.cached


def test_choices_of_one_token_are_one_input():
    # 6 tokens of context, 2 requests of 7; the target's only token is not computed. An engine gets it, and caches 4.
    assert numbers(volume([ask(range(6), [7], [8])])) == (14, 6, 6, 7 + 3)


def test_choices_of_several_tokens_share_the_context():
    # Contexts of 6, targets of 3 of which 2 are computed: 8 + 8 alone, 6 + 2 + 2 shared, 9 + (9 - 4) in blocks of 4.
    assert numbers(volume([ask(range(6), [7, 8, 9], [10, 11, 12])])) == (18, 16, 10, 14)


def test_choices_that_begin_alike_share_that_too():
    assert volume([ask(range(6), [7, 8, 9], [7, 8, 10])]).shared == 8


def test_a_request_that_is_asked_twice_computes_its_last_context_token_again():
    # Contexts of 8 tokens: of the second request 7 may come from the cache, which are one block of 4.
    assert volume([ask(range(8), [9, 10]), ask(range(8), [9, 10])]).cached == 10 + (10 - 4)


def test_a_target_longer_than_a_block_is_computed_again():
    target = list(range(20, 32))
    assert volume([ask(range(5), target), ask(range(5), target)]).cached == 17 + (17 - 4)


def test_fixed_examples_are_computed_once_for_a_task():
    documents = [ask((*EXAMPLES, 1, 2), [3], [4]), ask((*EXAMPLES, 5, 6), [3], [4])]
    drawn, fixed = volume(documents), volume(documents, fixed=True)
    assert drawn.alone == fixed.alone == 20
    assert (drawn.shared, fixed.shared) == (20, 8 + 2 + 2)
    # 8 of 10 tokens of a context are two blocks of 4.
    assert drawn.cached == fixed.cached == 11 + 3 + 3 + 3


def test_a_part_of_the_documents_stands_for_all_of_them():
    documents = [ask((*EXAMPLES, number, number), [3], [4]) for number in range(8)]
    part, whole = volume(documents[:4], fixed=True, num_documents=8), volume(documents, fixed=True)
    assert numbers(part) == numbers(whole)
    assert (part.requests, part.documents) == (16, 8)
    assert (part.basis, whole.basis) == ("sample", "requests")


def test_nothing_that_is_shared_costs_more_than_alone():
    documents = [ask(range(number, number + 9), [1, 2], [1, 3], [4]) for number in range(20)]
    found = volume(documents)
    assert found.shared <= found.alone <= found.asked
    assert found.shared <= found.cached <= found.asked


def test_a_group_is_the_sum_of_its_tasks():
    one = TaskVolume(1, 2, 3, 4, 5, 6, 7, "requests")
    assert total([one, one]) == TaskVolume(2, 4, 6, 8, 10, 12, 14, "requests")
    assert total([one, TaskVolume(1, 2, 3, 4, 5, 6, 7, "sample")]).basis == "sample"


def test_a_published_size_counts_as_the_requests_of_such_a_task_would():
    """3 subjects of 4 documents, 2 fixed examples of 8 tokens, questions of 8, 2 choices of 3 tokens, blocks of 4."""
    size = TaskSize(documents=12, question=8, choices=2, choice=3, example=8, subjects=3, fixed_examples=True)
    found = size.volume(2, None, 4)
    subjects = []
    for subject in range(3):
        examples = tuple(range(1000 * subject, 1000 * subject + 16))
        questions = [tuple(range(5000 + 10 * number, 5008 + 10 * number)) for number in range(4)]
        documents = [ask(examples + question, [7, 8, 9], [10, 11, 12]) for question in questions]
        subjects.append(volume(documents, fixed=True))
    real = total(subjects)
    assert (found.documents, found.requests) == (real.documents, real.requests)
    assert (found.asked, found.alone, found.shared) == (real.asked, real.alone, real.shared)
    assert found.cached == pytest.approx(real.cached, rel=0.25)


def test_a_limit_is_of_each_subject():
    assert PUBLISHED["mmlu"].volume(5, 10, 16).documents == 570
    assert PUBLISHED["boolq"].volume(0, 10, 16).documents == 10
    assert PUBLISHED["boolq"].volume(0, 10**6, 16).documents == 3270


@pytest.fixture(scope="module")
def counter():
    return Counter(tiny_models.make_tokenizer(), include_path=str(TASKS), seed=1234, max_length=256, block=16)


def test_the_requests_of_a_task_are_counted_from_its_data(counter):
    shots = [counter.count(TaskRequest("opposites", number)) for number in (0, 2)]
    lines = (TASKS / "opposites_test.jsonl").read_text().splitlines()
    assert [found.documents for found in shots] == [len(lines)] * 2
    assert shots[1].asked > 2 * shots[0].asked
    assert all(found.basis == "requests" and not found.generated for found in shots)
    assert counter.count(TaskRequest("opposites", 0, 3)).documents == 3


def test_first_examples_are_shared_by_a_task_and_drawn_ones_are_not(counter):
    first, drawn = (counter.count(TaskRequest(name, 4)) for name in ("opposites_first", "opposites"))
    assert first.alone == pytest.approx(drawn.alone, rel=0.2)
    assert first.shared < 0.5 * drawn.shared


def test_whole_texts_have_nothing_to_share(counter):
    found = counter.count(TaskRequest("passages"))
    assert found.asked == found.alone + found.requests
    assert found.shared == found.alone


def test_a_published_task_without_its_data_is_known_by_its_size(counter, monkeypatch):
    monkeypatch.setattr("drop_ray.evaluation.tasks.counting.load_tasks", refuse)
    assert counter.count(TaskRequest("boolq", 0)) == PUBLISHED["boolq"].volume(0, None, 16)
    assert counter.count(TaskRequest("lambada_openai")) is None


def refuse(*_):
    from drop_ray.errors import UserError

    raise UserError("evaluation.tasks: no data")
