"""Killed workers, nodes and drivers cost time, not results. `python tests/runtime/faults.py` prints a table."""

import faults
import pytest
from fault_run import POINTS, FaultRun, TinyCluster
from faults import disturb, undisturbed_results
from tiny_run import write_inputs

pytestmark = pytest.mark.alone

# Each fault and each point once. The first also shows the others' means: units requeued, a worker that cannot be
# replaced, a smaller cluster. A killed worker is also in test_pipeline.py.
FULL = (("node", "scoring"),)


def marks(fault, point):
    return pytest.mark.full if (fault, point) in FULL else pytest.mark.nightly


@pytest.fixture(scope="module")
def fault_inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(fault_inputs, tmp_path_factory):
    return undisturbed_results(fault_inputs, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.mark.parametrize(
    ("fault", "point"),
    [pytest.param(fault, point, marks=marks(fault, point)) for fault in faults.FAULTS for point in POINTS],
)
def test_what_is_killed_in_the_middle_changes_no_byte_and_repeats_nothing(
    fault_inputs, undisturbed, tmp_path, fault, point
):
    with TinyCluster() as cluster:
        row = disturb(FaultRun(cluster, fault_inputs, tmp_path / "run"), cluster, fault, point, undisturbed)
    assert row.identical
    assert row.repeated == 0
    # What a lost worker had in its hands, and no more: each of the two has one unit.
    assert row.redone <= (2 if fault == "driver" else 1)


@pytest.mark.nightly
def test_a_node_that_joins_later_takes_over_from_the_only_one(fault_inputs, undisturbed, tmp_path):
    with TinyCluster(num_nodes=1) as cluster:
        run = FaultRun(cluster, fault_inputs, tmp_path / "run").start()
        before = run.wait_for("scoring")
        cluster.kill_node()
        cluster.add_node()
        assert run.finish() == 0, run.log.read_text()
    assert run.results() == undisturbed
    assert before.items() <= run.attempts().items()


@pytest.mark.nightly
def test_a_run_whose_cluster_has_no_node_left_ends_and_says_so(fault_inputs, tmp_path):
    with TinyCluster() as cluster:
        run = FaultRun(cluster, fault_inputs, tmp_path / "run", start_timeout_s=60).start()
        run.wait_for("scoring")
        cluster.kill_node()
        cluster.kill_node()
        assert run.finish() == 1
    assert "no worker became ready within 60 s; the cluster has" in run.log.read_text()
