"""What the run says when a share has lost its worker too often: which one, where, why and what to do."""

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from drop_ray.errors import WorkerFailedError
from drop_ray.runtime.logs import WorkerInfo, memory_bytes
from drop_ray.runtime.losses import HungWorkerError, Losses

INFO = WorkerInfo("10.0.0.7", 41, "/no/such/log", "id", 64 << 30)


def message(error):
    with pytest.raises(WorkerFailedError) as raised:
        Losses(1).count("base on mmlu", INFO, error)
    return str(raised.value)


def test_a_share_may_lose_workers_until_its_last_attempt():
    losses = Losses(2)
    losses.count("a", INFO, ActorDiedError())
    losses.count("b", INFO, ActorDiedError())
    with pytest.raises(WorkerFailedError, match="a: its worker was lost 2 times"):
        losses.count("a", INFO, ActorDiedError())


def test_memory_is_named_with_the_nodes_size_and_the_remedy():
    said = message(OutOfMemoryError("Task was killed due to the node running low on memory."))
    assert said.startswith("base on mmlu: its worker was lost 1 times (its node's memory was used up: ")
    assert "10.0.0.7 has 64.0 GiB; ask for fewer workers a node (raise execution.cpus_per_worker)" in said
    assert "worker 41 on 10.0.0.7, log /no/such/log" in said
    # The kernel's own killing is not told from another's.
    assert "most often the kernel kills it, because its node's memory is used up: 10.0.0.7" in message(ActorDiedError())


def test_a_worker_that_hung_is_said_to_have_hung():
    said = message(HungWorkerError(7200))
    assert "(no answer for 2 h 0 min; if the unit takes so long, raise execution.unit_timeout" in said
    assert "memory" not in said


def test_a_containers_limit_is_the_memory_of_its_workers(tmp_path):
    unlimited, limited = tmp_path / "max", tmp_path / "limit"
    unlimited.write_text("max\n")
    limited.write_text("1048576\n")
    assert memory_bytes([unlimited, limited, tmp_path / "missing"]) == 1048576
    assert memory_bytes([unlimited]) == memory_bytes([]) > 1048576
