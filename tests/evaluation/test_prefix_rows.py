"""How requests that begin alike are put into rows and groups: every question keeps its own tokens, few are computed."""

import random

import pytest

from drop_ray.evaluation.tokens.prefix_rows import Question, common, group_rows


def ancestors(row, index):
    """The tokens of a row that a token attends to, in order: what the mask allows."""
    return [row.tokens[other] for other in range(index + 1) if index < row.ends[other]]


def check(questions, groups):
    """Every question reads its own inputs, at its own positions, and is found once."""
    found = {}
    for group in groups:
        for row in group.rows:
            for number, path in zip(row.questions, row.paths, strict=True):
                inputs = questions[number].inputs
                assert [*group.prefix, *ancestors(row, path[-1])] == list(inputs)
                assert [row.positions[index] for index in path] == list(range(len(inputs)))[-questions[number].judged :]
                assert [row.tokens[index] for index in path] == list(inputs[-questions[number].judged :])
                found[number] = found.get(number, 0) + 1
    assert found == dict.fromkeys(range(len(questions)), 1)


def computed(groups):
    return sum(len(group.prefix) + sum(len(row.tokens) for row in group.rows) for group in groups)


def test_the_choices_of_a_document_share_its_context_and_documents_their_examples():
    examples = tuple(range(1000, 1600))
    contexts = [examples + tuple(range(10 * number, 10 * number + 30)) for number in range(40)]
    questions = [Question((*context, 2000 + choice, 3000), 2) for context in contexts for choice in range(4)]

    groups = group_rows(questions)

    check(questions, groups)
    # 600 for the examples, 30 for each question, 2 for each choice, and the row's last shared token where rows part.
    assert computed(groups) == 600 + 40 * (30 + 4 * 2)
    assert len(groups) == 1
    assert groups[0].prefix == examples


def test_tasks_of_one_call_have_prefixes_of_their_own():
    first, second = tuple(range(1, 500)), tuple(range(1001, 1500))
    questions = [Question((*start, *[number] * 60), 3) for start in (first, second) for number in range(30)]
    groups = group_rows(questions)
    check(questions, groups)
    assert [group.prefix for group in groups] == [first, second]


def test_a_prefix_ends_before_what_is_judged():
    """The prediction of a first target token comes from the last token of its context, which no cache has logits of."""
    questions = [Question(tuple(range(700)), judged) for judged in (1, 650)]
    questions += [Question((*range(690), *[5000 + number] * 100), 100) for number in range(8)]
    groups = group_rows(questions)
    check(questions, groups)
    for group in groups:
        for row in group.rows:
            for number in row.questions:
                assert len(group.prefix) <= len(questions[number].inputs) - questions[number].judged


def test_sequences_that_share_little_are_rows_of_their_own():
    questions = [Question((7, 8, *[number] * 50), 1) for number in range(5)]
    (group,) = group_rows(questions)
    assert group.prefix == ()
    assert [len(row.questions) for row in group.rows] == [1] * 5


@pytest.mark.parametrize("seed", range(30))
def test_any_requests_keep_their_tokens_and_cost_no_more_than_apart(seed):
    draw = random.Random(seed)
    starts = [tuple(draw.choices(range(3), k=draw.randrange(1, 200))) for _ in range(4)]
    questions = []
    for _ in range(draw.randrange(1, 60)):
        inputs = draw.choice(starts)[: draw.randrange(1, 200)] + tuple(draw.choices(range(3), k=draw.randrange(20)))
        questions.append(Question(inputs, draw.randrange(1, len(inputs) + 1)))
    sizes = {"row_tokens": draw.choice([16, 512]), "prefix_cost": draw.choice([0, 64])}

    groups = group_rows(questions, **sizes)

    check(questions, groups)
    assert computed(groups) <= sum(len(question.inputs) for question in questions)
    longest = max(len(question.inputs) for question in questions)
    assert all(len(row.tokens) <= max(sizes["row_tokens"], 1.25 * longest) for group in groups for row in group.rows)


def test_the_order_of_the_requests_does_not_matter():
    draw = random.Random(5)
    questions = [Question(tuple(draw.choices(range(2), k=draw.randrange(1, 40))), 1) for _ in range(200)]
    shuffled = draw.sample(questions, len(questions))

    def rows(groups):
        return [(group.prefix, [(row.tokens, row.positions, row.ends) for row in group.rows]) for group in groups]

    assert rows(group_rows(questions)) == rows(group_rows(shuffled))


def test_what_two_sequences_begin_with():
    assert (common((), (1,)), common((1, 2), (1, 2, 3)), common((1, 2), (1, 3)), common((1,), (2,))) == (0, 2, 1, 0)
