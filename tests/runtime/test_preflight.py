"""What the cluster cannot do is said before any work, all of it in one message that names the nodes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import WorkerCrashedError
from tiny_run import config_of

from drop_ray.config import ExecutionConfig
from drop_ray.errors import StoreOutageError, UserError
from drop_ray.job.layout import Layout
from drop_ray.job.opening import open_job
from drop_ray.job.units import WorkerRequest
from drop_ray.runtime import preflight
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.connection import join_or_start
from drop_ray.runtime.dispatch import RayCluster, worker_setup
from drop_ray.runtime.preflight import (
    Node,
    NodeReport,
    NodesLostError,
    alive_nodes,
    ask_nodes,
    fitting_workers,
    probe_node,
    resource_faults,
)

GIB = 1 << 30
CPU_NODE, GPU_NODE = Node("a", "10.0.0.1", 8, 0), Node("b", "10.0.0.2", 2, 4)


@pytest.fixture
def setup(inputs, tmp_path):
    return worker_setup(open_job(config_of(inputs, tmp_path / "store")))


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"cpus_per_worker": 8}, []),
        ({"gpus_per_worker": 4, "cpus_per_worker": 2}, []),
        ({"gpus_per_worker": "auto", "tensor_parallel": 4}, []),
        ({"cpus_per_worker": 9}, ["execution.cpus_per_worker: a worker asks for 9 CPU, the largest node has 8"]),
        ({"gpus_per_worker": 5}, ["execution.gpus_per_worker: a worker asks for 5 GPU, the largest node has 4"]),
        (
            {"cpus_per_worker": 4, "gpus_per_worker": 1},
            ["execution: no node has both the 4 CPU and the 1 GPU that a worker asks for"],
        ),
        (
            {"gpus_per_worker": 1, "tensor_parallel": 8},
            ["execution.tensor_parallel: an engine asks for 8 GPUs of one node, the largest has 4; engines over"],
        ),
        (
            {"cpus_per_worker": 9, "gpus_per_worker": 5},
            ["execution.cpus_per_worker: a worker asks", "execution.gpus_per_worker: a worker asks"],
        ),
    ],
)
def test_a_worker_has_to_fit_on_one_node(fields, faults):
    found = list(resource_faults(ExecutionConfig(**fields), [CPU_NODE, GPU_NODE]))
    assert len(found) == len(faults)
    assert all(text.startswith(fault) for text, fault in zip(found, faults, strict=True))


def test_a_cluster_without_nodes_offers_nothing():
    assert list(resource_faults(ExecutionConfig(), [])) == [
        "execution.cpus_per_worker: a worker asks for 1 CPU, the largest node has 0"
    ]


BIG = Node("c", "10.0.0.3", 64, 8)


@pytest.mark.parametrize(
    ("fields", "nodes", "workers"),
    [
        ({}, [CPU_NODE], 8),
        ({"cpus_per_worker": 3}, [CPU_NODE, CPU_NODE], 4),  # two on each, and no worker on two nodes
        ({"cpus_per_worker": 0.1}, [Node("d", "10.0.0.4", 1, 0)], 10),
        ({"gpus_per_worker": 1}, [BIG, BIG], 16),
        ({"gpus_per_worker": 1}, [CPU_NODE, BIG], 8),
        ({"gpus_per_worker": "auto"}, [BIG], 8),
        ({"gpus_per_worker": 0.5}, [BIG], 16),
        ({"gpus_per_worker": 3}, [BIG, GPU_NODE], 3),
        ({"gpus_per_worker": 1}, [GPU_NODE], 2),  # of its 4 GPUs, by its 2 CPUs
        ({"gpus_per_worker": 1, "cpus_per_worker": 0.5}, [GPU_NODE], 4),
        ({"gpus_per_worker": 1}, [CPU_NODE], 1),  # resource_faults says that there is no GPU
        ({}, [], 1),
    ],
)
def test_auto_is_as_many_workers_as_the_nodes_have_room_for(fields, nodes, workers):
    assert fitting_workers(ExecutionConfig(num_workers="auto", **fields), nodes) == workers


def test_a_cluster_is_asked_only_for_auto_and_the_job_gets_the_number(monkeypatch, inputs, tmp_path):
    monkeypatch.setattr("drop_ray.runtime.cluster.alive_nodes", lambda: (BIG, BIG))
    monkeypatch.setattr(Cluster, "_join", lambda self: None)
    auto = open_job(config_of(inputs, tmp_path / "a", execution={"num_workers": "auto", "gpus_per_worker": 2}))
    fitted = RayCluster(auto.config.execution, None).fitted(auto)
    assert fitted.config.execution == auto.config.execution.model_copy(update={"num_workers": 8})
    assert fitted.config.execution.num_devices == 16
    assert "num_workers: 8" in fitted.config.to_yaml()
    monkeypatch.setattr("drop_ray.runtime.cluster.alive_nodes", lambda: pytest.fail("it was asked"))
    assert RayCluster(fitted.config.execution, None).fitted(fitted) is fitted


def connected(gpu_bytes, nodes=(GPU_NODE,), **fields):
    cluster = Cluster(ExecutionConfig(**fields))
    cluster._nodes, cluster._gpu_bytes = nodes, gpu_bytes
    return cluster


def test_workers_of_the_cluster_have_the_gpus_of_its_nodes():
    auto, four = connected(80 * GIB, gpus_per_worker="auto"), connected(80 * GIB, gpus_per_worker=4)
    assert auto.layout(WorkerRequest(model_bytes=140 * GIB)).gpus == 3
    assert four.layout(WorkerRequest()) == Layout(4, 1, 0.25)
    assert connected(None).layout(WorkerRequest(model_bytes=140 * GIB)) == Layout(1, 0, 1)
    assert auto.bytes_per_worker == four.bytes_per_worker == 80 * GIB
    assert connected(80 * GIB, gpus_per_worker=0.5).bytes_per_worker == 40 * GIB


def test_a_pool_has_the_workers_of_its_layout_and_ends_for_another_one(monkeypatch):
    asked, closed = [], []

    class Pool:
        def __init__(self, make_actor, settings):
            asked[-1]["workers"] = settings.num_actors

        def close(self):
            closed.append(len(asked))

    class Actor:
        def options(self, **options):
            asked.append(options)
            return SimpleNamespace(remote=print)

    monkeypatch.setattr("drop_ray.runtime.cluster.Pool", Pool)
    monkeypatch.setattr("drop_ray.runtime.cluster.ray.remote", lambda actor: Actor())
    cluster = connected(80 * GIB, (Node("c", "10.0.0.3", 16, 8),), num_workers=2, gpus_per_worker=4, cpus_per_worker=8)
    for request in (
        WorkerRequest(),
        WorkerRequest(),
        WorkerRequest(model_bytes=140 * GIB),
        WorkerRequest("bench", None, 4),
    ):
        cluster.pool(None, request, False)
    assert [(one["workers"], one["num_gpus"], one["num_cpus"]) for one in asked] == [(8, 1, 2), (2, 4, 8), (2, 4, 8)]
    assert closed == [1, 2]  # the second request found its pool


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("auto", "needs 5 GPUs of 24.0 GiB on one node, the largest node has 4"),
        (2, "needs 5 GPUs of 24.0 GiB on one node, a worker has 2"),
    ],
)
def test_a_model_that_the_gpus_do_not_hold_is_refused(gpus, message):
    with pytest.raises(UserError, match=f"execution.gpus_per_worker: a model of .* {message}"):
        connected(24 * GIB, gpus_per_worker=gpus).layout(WorkerRequest(model_bytes=90 * GIB))


def test_a_node_that_has_everything_has_no_fault_and_leaves_no_probe(setup, local_ray, tmp_path):
    assert ask_nodes(setup, alive_nodes(), gpus=False) == ([], None)
    assert list((tmp_path / "store").glob(".*")) == []


def test_all_faults_of_a_node_come_together(setup, local_ray, monkeypatch):
    versions = preflight.public_versions
    # This process is the driver; the node's task runs in another one.
    monkeypatch.setattr(preflight, "public_versions", lambda names: {**versions(names), "transformers": "99.0"})
    faults, _ = ask_nodes(replace(setup, model_outline="0" * 64), alive_nodes(), gpus=False)
    address = ray.nodes()[0]["NodeManagerAddress"]
    own = versions(["transformers"])["transformers"]
    assert len(faults) == 2
    assert faults[0].startswith(f"node {address}: transformers is {own}, the driver has 99.0")
    assert faults[1].startswith(f"node {address}: model.path:")


class Answers:
    """Stands in for Ray's answers: a report, or the error that comes in its place."""

    def __init__(self, *answers):
        self.answers = answers

    def remote(self, **_):
        left = iter(self.answers)
        return lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: next(left)))

    def get(self, answer, timeout):
        if isinstance(answer, Exception):
            raise answer
        return answer


LOST = WorkerCrashedError()
SILENT = ray.exceptions.GetTimeoutError("late")
WELL, ILL = NodeReport(None, ()), NodeReport(None, ("transformers is missing",))


@pytest.mark.parametrize(
    ("answers", "error"), [((WELL, LOST), NodesLostError), ((SILENT, LOST), NodesLostError), ((ILL, LOST), None)]
)
def test_nodes_that_are_lost_are_no_bad_input_unless_something_else_is_wrong(setup, monkeypatch, answers, error):
    stand_in = Answers(*answers)
    for name in ("remote", "get"):
        monkeypatch.setattr(ray, name, getattr(stand_in, name))
    monkeypatch.setattr(ray, "wait", lambda *_, **__: None)
    monkeypatch.setattr(preflight, "NodeAffinitySchedulingStrategy", lambda *_, **__: None)
    if error is None:
        faults, _ = ask_nodes(setup, [CPU_NODE, BIG], gpus=False)
        assert faults == [
            "node 10.0.0.1: transformers is missing",
            "node 10.0.0.3: lost before any work (WorkerCrashedError)",
        ]
        return
    with pytest.raises(error, match=r"node 10.0.0.3: lost before any work \(WorkerCrashedError\)") as caught:
        ask_nodes(setup, [CPU_NODE, BIG], gpus=False)
    assert caught.value.exit_code == 1


def test_a_library_that_a_node_lacks_is_named(setup):
    setup.store.write_file(".probe-x/driver", b"")
    assert probe_node(setup, ".probe-x/driver", {"no-such-library": "7.6.0"}, False).faults == (
        "no-such-library is missing, the driver has 7.6.0; install the same on every node",
    )


def test_a_folder_of_a_nodes_own_is_not_taken_for_the_store(setup):
    (fault,) = probe_node(setup, ".probe-of-another-machine/driver", {}, False).faults
    assert "is not the driver's store, but a folder of this node's own; use one that all nodes share: s3://" in fault


def test_a_store_that_a_node_cannot_write_is_its_fault(setup, tmp_path, monkeypatch):
    setup.store.write_file(".probe-x/driver", b"")

    def refuse(_):
        raise UserError("store: not writable: no credentials")

    monkeypatch.setattr(type(setup.store), "check_writable", refuse)
    assert probe_node(setup, ".probe-x/driver", {}, False).faults == ("store: not writable: no credentials",)


@pytest.mark.parametrize(("wanted", "may_pass"), [({}, True), ({"no-such-library": "7.6.0"}, False)])
def test_a_store_out_of_a_nodes_reach_may_be_in_reach_the_next_time(setup, monkeypatch, wanted, may_pass):
    setup.store.write_file(".probe-x/driver", b"")

    def time_out(_):
        raise StoreOutageError("S3 was out of reach for 120 s")

    monkeypatch.setattr(type(setup.store), "check_writable", time_out)
    report = probe_node(setup, ".probe-x/driver", wanted, False)
    assert (report.faults[-1], report.is_lost) == ("S3 was out of reach for 120 s", may_pass)


def test_a_model_that_a_node_lacks_is_its_fault(setup):
    setup.store.write_file(".probe-x/driver", b"")
    model = setup.model.model_copy(update={"path": "/nowhere/model"})
    (fault,) = probe_node(replace(setup, model=model), ".probe-x/driver", {}, False).faults
    assert "/nowhere/model is neither a folder" in fault


def test_gpus_that_torch_does_not_see_are_a_fault(setup, monkeypatch):
    setup.store.write_file(".probe-x/driver", b"")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (fault,) = probe_node(setup, ".probe-x/driver", {}, True).faults
    assert "Ray offers GPUs here, but torch sees none" in fault


def test_the_drivers_own_machine_alone_is_not_asked(setup, local_ray, monkeypatch):
    monkeypatch.setattr("drop_ray.runtime.cluster.ask_nodes", lambda *_, **__: pytest.fail("it was asked"))
    with Cluster(ExecutionConfig()) as cluster:
        cluster.connect(setup)


def test_every_fault_of_the_cluster_is_in_one_error(setup, local_ray, monkeypatch):
    monkeypatch.setattr("drop_ray.runtime.cluster.ask_nodes", lambda *_, **__: (["node x: no", "node y: no"], None))
    execution = ExecutionConfig(gpus_per_worker=2, cpus_per_worker=999)
    with Cluster(execution) as cluster, pytest.raises(UserError) as caught:
        cluster.connect(setup)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        *("execution.cpus_per_worker", "execution.gpus_per_worker", "node x", "node y")
    ]


@pytest.mark.parametrize("address", ["http://head:8265", "https://head"])
def test_the_address_of_a_dashboard_is_no_address_of_a_cluster(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"^RAY_ADDRESS: {address} is the address of a dashboard, .*HEAD:6379"):
        join_or_start(1)


def test_a_cluster_that_does_not_answer_is_said_in_one_line(monkeypatch):
    def init(**_):
        raise ConnectionError("ray client connection\ntimeout")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError) as caught:
        join_or_start(1)
    assert str(caught.value) == (
        "RAY_ADDRESS: no Ray cluster answers at 10.0.0.1:6379 (ConnectionError: ray client connection timeout); start "
        "it, or unset RAY_ADDRESS to start Ray here"
    )
