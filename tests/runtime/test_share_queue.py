"""Which idle worker gets which share."""

from types import SimpleNamespace

from drop_ray.runtime.logs import WorkerInfo
from drop_ray.runtime.pool_worker import PoolWorker
from drop_ray.runtime.share_queue import ShareQueue


def share(name, model_key=None):
    return SimpleNamespace(name=name, model_key=model_key)


def worker(node="n1", model_key=None):
    return PoolWorker(None, WorkerInfo(node, 1, "log", "id", 1 << 30), model_key=model_key)


def test_a_worker_keeps_to_its_model_then_to_one_that_nobody_has():
    queue = ShareQueue("stage", shares := [share("x", "a"), share("y", "b"), share("z", "c")])
    holds_b, new = worker(model_key=("stage", "b")), worker()
    assert queue.take([new, holds_b], []) == (holds_b, shares[1])
    holds_a = worker(model_key=("stage", "a"))
    assert queue.take([new], [holds_a]) == (new, shares[2])
    assert queue.take([new], [holds_a]) == (new, shares[0])
    assert queue.take([new], []) is None
    assert queue.take([], []) is None


def test_a_share_that_takes_too_long_comes_first_and_goes_to_another_node():
    queue = ShareQueue("stage", shares := [share("x"), share("y")])
    slow, beside, elsewhere = worker("n1"), worker("n1"), worker("n2")
    slow.give(queue.take([slow], [])[1], None)
    queue.ask_again(shares[0])
    assert queue.asked_again == {"x"}
    assert queue.num_wanted == 3
    assert queue.take([beside, elsewhere], [slow]) == (elsewhere, shares[0])
    queue.ask_again(shares[0])
    assert queue.take([beside], [slow]) == (beside, shares[0])
    assert queue.asked_again == set()


def test_a_share_is_finished_once_and_no_longer_wanted_by_others():
    queue = ShareQueue("stage", [first := share("x")])
    queue.take([worker()], [])
    queue.ask_again(first)
    assert queue.finish(first)
    assert not queue.finish(first)
    assert not queue.is_open(first)
    assert queue.num_wanted == 0
    assert queue.take([worker()], []) is None


def test_a_share_that_lost_its_worker_is_next_and_waits_once():
    queue = ShareQueue("stage", shares := [share("x"), share("y")])
    queue.take([worker()], [])
    queue.ask_again(shares[0])
    queue.put_back(shares[0])
    assert [queue.take([worker()], [])[1].name for _ in range(2)] == ["x", "y"]
    assert queue.take([worker()], []) is None
