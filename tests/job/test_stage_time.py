"""How long a stage still takes: nothing before there is evidence, and what comes is within what was told."""

import heapq
import math
import random

import pytest

from drop_ray.job.time_left import StageTime, UnderWay
from drop_ray.job.units import Share


class Piece(Share):
    model_key = None
    steps = ()

    def __init__(self, name, kind="task"):
        self._name, self._kind = name, kind

    @property
    def name(self):
        return self._name

    @property
    def kind(self):
        return self._kind

    def run(self, worker):
        raise NotImplementedError


def stage(*kinds):
    return StageTime([Piece(str(number), kind) for number, kind in enumerate(kinds)])


def test_before_anything_is_known_nothing_is_told():
    assert stage("a", "a").left([], 2) is None
    assert stage("a", "a").left([UnderWay("0", 500.0, None)], 2) is None
    assert stage("a", "a").left([UnderWay("0", 500.0, 0.01)], 2) is None  # it may still load its model


def test_the_first_evidence_within_a_share_is_told():
    low, high = stage("a").left([UnderWay("0", 60.0, 0.25)], 1)
    assert (low, high) == pytest.approx((180 / 1.25, 180 * 1.25))


def test_a_kind_of_which_nothing_is_known_has_no_upper_bound():
    known = stage("a", "a", "a", "b")
    known.finished("0", 10.0)
    known.finished("1", 10.0)
    assert known.left([], 1) == (10.0, math.inf)
    known.finished("3", 100.0)
    assert known.left([], 1) == (10.0, 10.0)


def test_what_others_have_done_is_not_left():
    known = stage("a", "a", "a")
    known.finished("0", 10.0)
    known.found("1")
    assert known.left([], 1).high == 10.0
    known.found("2")
    assert known.left([], 1) is None


def test_a_share_that_takes_longer_than_all_others_may_take_as_long_again():
    known = stage("a", "a", "a")
    known.finished("0", 10.0)
    known.finished("1", 10.0)
    assert known.left([UnderWay("2", 50.0, None)], 1) == (0.0, 50.0)


def test_a_share_that_two_workers_have_counts_once_and_as_far_as_the_better_one_is():
    known = stage("a", "a")
    known.finished("0", 100.0)
    alone = known.left([UnderWay("1", 60.0, 0.5)], 2)
    assert known.left([UnderWay("1", 60.0, 0.5), UnderWay("1", 5.0, None)], 2) == alone


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_in_simulated_stages_the_truth_is_mostly_within_what_was_told(workers):
    inside = bounded = told = 0
    for seed in range(40):
        draw = random.Random(seed)
        kinds = [draw.choice("abc") for _ in range(40)]
        seconds = [{"a": 10.0, "b": 30.0, "c": 100.0}[kind] * draw.uniform(0.8, 1.2) for kind in kinds]
        known, queue, busy, end, estimates = stage(*kinds), list(range(40)), [], 0.0, []
        while queue or busy:
            while queue and len(busy) < workers:
                number = queue.pop(0)
                heapq.heappush(busy, (end + seconds[number], end, number))
            end, since, number = heapq.heappop(busy)
            known.finished(str(number), end - since)
            under_way = [UnderWay(str(other), end - began, None) for _, began, other in busy]
            if (left := known.left(under_way, workers)) and 10 <= 40 - len(queue) <= 38:
                estimates.append((end, left))
        for now, (low, high) in estimates:
            told += 1
            bounded += math.isfinite(high)
            inside += 0.9 * low <= end - now <= 1.1 * high
    assert inside / told > 0.95
    assert bounded / told > 0.6
