"""Faults in the middle of a run, on a Ray cluster of three nodes: `python tests/runtime/faults.py` prints a table.

The driver is a `drop-ray run` of its own, the cluster outlives it. What decides when a fault comes is the store: the
first committed record of a stage, of which many units are left then. A fault is survived if the finished run has the
bytes of an undisturbed one, and every record that stood when the fault came is still the same attempt's.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from ray.cluster_utils import Cluster
from tiny_run import write_config, write_inputs

from drop_ray.job.ledger import read_manifest
from drop_ray.store import open_store

# A raylet that is killed is declared dead after two seconds, not after half a minute.
FAST_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
POINTS = {"scoring": ("score-range",), "export": ("export",), "evaluation": ("evaluate", "perplexity")}
FAULTS = ("worker", "node", "driver")
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
LIMIT_S = 300.0


@dataclass(frozen=True)
class Row:
    """found: units done when the fault came; redone: units given out a second time, because their worker was lost;
    repeated: units that were done and yet done again; identical: whether the finished run has the undisturbed bytes."""

    fault: str
    point: str
    found: int
    redone: int
    repeated: int
    identical: bool


class TinyCluster:
    """A head that works on nothing, which drivers join, and nodes of one CPU each."""

    def __init__(self, num_nodes: int = 2):
        # Not in the arguments of `Cluster`: nodes inherit these, and so do the workers on them.
        os.environ.update(ENVIRONMENT)
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "_system_config": FAST_DEATH, "include_dashboard": False},
        )
        self.nodes = [self._cluster.add_node(num_cpus=1) for _ in range(num_nodes)]

    def __enter__(self) -> "TinyCluster":
        return self

    def __exit__(self, *_) -> None:
        self._cluster.shutdown()

    def start_driver(self, config: str, log: Path) -> subprocess.Popen:
        with log.open("a") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "drop_ray", "run", config],
                env={**os.environ, "RAY_ADDRESS": self._cluster.address},
                stdout=file,
                stderr=file,
            )

    def add_node(self) -> None:
        self.nodes.append(self._cluster.add_node(num_cpus=1))

    def kill_node(self) -> None:
        self._cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def kill_a_busy_worker(self) -> None:
        wait_until(lambda: bool(busy_workers()), "no worker was busy: the fault came too late")
        busy_workers()[0].kill()


def busy_workers() -> list[psutil.Process]:
    """Of the clusters that this process started; Ray names a worker's process after the method that it runs."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::WorkerActor.run"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError(otherwise)
        time.sleep(0.002)


class FaultRun:
    """A run on a cluster, whose records are watched."""

    def __init__(self, cluster: TinyCluster, inputs: Path, folder: Path, **execution):
        folder.mkdir()
        self._cluster, self._store_folder, self.log = cluster, folder / "store", folder / "driver.log"
        self._config = write_config(
            folder / "run.yaml",
            inputs,
            self._store_folder,
            name="run",
            calibration={"source": str(inputs / "text.txt"), "num_samples": 90, "seq_len": 32},
            scoring={"micro_batch": 1, "range_size": 1},
            plans=[
                {"strategy": "attention", "drop": [1, 2, 3]},
                {"strategy": "mlp", "drop": [1, 2, 3]},
                {"strategy": "joint", "drop": [3, 5]},
                {"strategy": "block", "drop": [1, 2]},
            ],
            export="all",
            execution={"num_workers": 2, "cpus_per_worker": 1, **execution},
        )
        self.driver: subprocess.Popen | None = None

    def start(self) -> "FaultRun":
        self.driver = self._cluster.start_driver(self._config, self.log)
        return self

    def wait_for(self, point: str) -> dict[str, str]:
        """Until the stage has its first record; the attempt of every record that stands then."""
        wait_until(lambda: self._has_begun(point) or self._is_over(), f"the run did not come to {point}")
        assert not self._is_over(), self.log.read_text()
        return self.attempts()

    def finish(self) -> int:
        return self.driver.wait(LIMIT_S)

    def attempts(self) -> dict[str, str]:
        """Of every unit that is done, by the folder of its artifact."""
        records = self._store_folder.glob("artifacts/*/commit.json")
        return {record.parent.name: json.loads(record.read_text())["attempt"] for record in records}

    def results(self) -> dict[str, str]:
        """Checksums of all the run's units, which must be there, and its plans."""
        store = open_store(str(self._store_folder))
        plans = {path.name: path.read_text() for path in self._store_folder.glob("runs/run/plans/*.json")}
        return plans | {step.path: store.find(step).checksum for _, _, step in read_manifest(store, "runs/run")}

    def _has_begun(self, point: str) -> bool:
        return any(any(self._store_folder.glob(f"artifacts/{step}-*/commit.json")) for step in POINTS[point])

    def _is_over(self) -> bool:
        return self.driver.poll() is not None


def disturb(run: FaultRun, cluster: TinyCluster, fault: str, point: str, undisturbed: dict[str, str]) -> Row:
    """Start a run, let the fault happen at the point, finish it, and compare."""
    before = run.start().wait_for(point)
    in_flight = 0
    if fault == "worker":
        cluster.kill_a_busy_worker()
    elif fault == "node":
        cluster.kill_node()
    else:
        in_flight = len(busy_workers())
        run.driver.kill()
        run.driver.wait()
        before = run.attempts()
        run.start()
    assert run.finish() == 0, run.log.read_text()
    after = run.attempts()
    log = run.log.read_text()
    redone = len(re.findall(r"worker lost, attempt", log)) if fault != "driver" else in_flight
    repeated = sum(after[name] != attempt for name, attempt in before.items())
    assert len(before) < len(after), "the fault came too late"
    return Row(fault, point, len(before), redone, repeated, run.results() == undisturbed)


def undisturbed_results(inputs: Path, folder: Path) -> dict[str, str]:
    with TinyCluster() as cluster:
        run = FaultRun(cluster, inputs, folder).start()
        assert run.finish() == 0, run.log.read_text()
        return run.results()


def rows(folder: Path, faults: tuple[str, ...] = FAULTS, points: tuple[str, ...] = tuple(POINTS)):
    """Yield a Row for every fault at every point; one cluster each, since a fault leaves it smaller."""
    inputs = write_inputs(folder)
    undisturbed = undisturbed_results(inputs, folder / "undisturbed")
    for fault in faults:
        for point in points:
            with TinyCluster() as cluster:
                run = FaultRun(cluster, inputs, folder / f"{fault}-{point}")
                yield disturb(run, cluster, fault, point, undisturbed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fault", choices=FAULTS, nargs="+", default=FAULTS)
    parser.add_argument("--point", choices=tuple(POINTS), nargs="+", default=tuple(POINTS))
    options = parser.parse_args()
    form = "{:8}  {:10}  {:>11}  {:>12}  {:>16}  {}"
    print(form.format("killed", "during", "done before", "units redone", "done units again", "identical"), flush=True)
    survived = True
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), tuple(options.fault), tuple(options.point)):
            survived &= row.identical and not row.repeated
            answer = "yes" if row.identical else "no"
            print(form.format(row.fault, row.point, row.found, row.redone, row.repeated, answer), flush=True)
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
