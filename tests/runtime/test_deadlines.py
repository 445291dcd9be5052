"""Which shares take too long, and what is done about them: times in, decisions out."""

import pytest

from drop_ray.runtime.deadlines import FLOOR_S, Attempt, Deadlines, Decisions
from drop_ray.runtime.pool_worker import PoolWorker


def attempt(elapsed_s, share="a", kind="score", is_done=False):
    return Attempt(PoolWorker(None), share, kind, elapsed_s, is_done)


def decide(*attempts, timeout=10.0, asked=()):
    """The decisions, as the indexes of the attempts that are copied and killed."""
    decisions = Deadlines(timeout).decide(attempts, asked)
    index = {attempt.worker: number for number, attempt in enumerate(attempts)}
    return [index[worker] for worker in decisions.copy], [index[worker] for worker in decisions.kill]


def test_within_its_time_a_worker_is_left_alone():
    assert decide(attempt(9.9), attempt(9.9, "b")) == ([], [])


def test_another_worker_is_asked_once_for_a_share_that_is_late():
    assert decide(attempt(1, "b"), attempt(10.1)) == ([1], [])
    assert decide(attempt(10.1), asked={"a"}) == ([], [])
    assert decide(attempt(10.1), attempt(1)) == ([], [])


def test_whoever_is_late_for_a_share_that_another_has_finished_is_killed():
    assert decide(attempt(10.1, is_done=True), attempt(9, "b", is_done=True)) == ([], [0])


def test_who_never_answers_is_killed_whether_or_not_another_worker_was_found():
    assert decide(attempt(20.1), asked={"a"}) == ([], [0])
    assert decide(attempt(20.1), attempt(9)) == ([], [0])
    # A second worker that is late in its turn is now the only one: a third is asked.
    assert decide(attempt(20.1), attempt(10.1)) == ([1], [0])


def test_a_share_that_nobody_finishes_loses_worker_after_worker_in_bounded_time():
    """As many as the pool replaces: the share is never left to one that hangs."""
    ages, killed = [0.0], 0
    for _ in range(100):
        ages = [age + 1 for age in ages]
        copies, kills = decide(*map(attempt, ages))
        ages = [age for index, age in enumerate(ages) if index not in kills] + [0.0] * len(copies)
        killed += len(kills)
    assert killed >= 4


def test_auto_learns_from_three_finished_shares_of_the_kind_and_has_a_floor():
    deadlines = Deadlines("auto")
    for seconds in (100.0, 5000.0):
        deadlines.finished("evaluate a", seconds)
    assert deadlines.timeout_s("evaluate a") is None
    assert deadlines.decide([attempt(1e6, kind="evaluate a")], ()) == Decisions()
    deadlines.finished("evaluate a", 200.0)
    assert deadlines.timeout_s("evaluate a") == 2000.0
    assert deadlines.timeout_s("evaluate b") is None
    for _ in range(3):
        deadlines.finished("evaluate b", 1.0)
    assert deadlines.timeout_s("evaluate b") == FLOOR_S


@pytest.mark.parametrize(("setting", "pause"), [("auto", 30.0), (3600.0, 30.0), (20.0, 2.0), (0.5, 0.2)])
def test_timeouts_are_looked_at_often_enough_to_be_kept(setting, pause):
    assert Deadlines(setting).pause_s(30.0) == pause
