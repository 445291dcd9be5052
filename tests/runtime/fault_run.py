"""A run that faults are let into: a small cluster, and a `drop-ray run` on it whose records are watched."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from processes import ray_workers
from ray.cluster_utils import Cluster
from tiny_run import write_config

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
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
LIMIT_S = 300.0


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
    return ray_workers("Actor.run")


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError(otherwise)
        time.sleep(0.002)


class FaultRun:
    """A run on a cluster, whose records are watched."""

    def __init__(self, cluster: TinyCluster | None, inputs: Path, folder: Path, store: str | None = None, **execution):
        folder.mkdir()
        self.store_url = store or str(folder / "store")
        self._cluster, self._store, self.log = cluster, open_store(self.store_url), folder / "driver.log"
        self.config = write_config(
            folder / "run.yaml",
            inputs,
            self.store_url,
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
        self.driver = self._cluster.start_driver(self.config, self.log)
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
        records = {name: self._store.commit_at(name) for name in self._store.list("artifacts")}
        return {name: record.attempt for name, record in records.items() if record is not None}

    def results(self) -> dict[str, str]:
        """Checksums of all the run's units, which must be there, and its plans."""
        store = self._store
        plans = {name: store.read_file(f"runs/run/plans/{name}").decode() for name in store.list("runs/run/plans")}
        return plans | {step.path: store.find(step).checksum for _, _, step in read_manifest(store, "runs/run")}

    def _has_begun(self, point: str) -> bool:
        steps = tuple(f"{step}-" for step in POINTS[point])
        return any(self._store.commit_at(name) for name in self._store.list("artifacts") if name.startswith(steps))

    def _is_over(self) -> bool:
        return self.driver.poll() is not None
