"""A run that ends early, in this process: what it says is kept, where its log is, and that it goes on."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import yaml
from local_run import LocalCluster, start_worker
from tiny_run import config_values, write_inputs

from drop_ray import pipeline
from drop_ray.cli import main
from drop_ray.errors import WorkerFailedError

ENDS = {
    "Ctrl-C": (lambda: os.kill(os.getpid(), signal.SIGINT), 130, "drop-ray: interrupted; run the same command again"),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "drop-ray: terminated; run the same command again"),
    "a failed worker": (WorkerFailedError("x failed: its last lines"), 1, "drop-ray: x failed: its last lines"),
}


class Cluster:
    """Does shares in this process, in place of Ray; the third one ends the run."""

    end = None

    def __init__(self, execution, presence):
        self.done = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fitted(self, job):
        return job

    def worker_bytes(self, job):
        return 1 << 40

    def prepare(self, job, stage, workers):
        self.local = LocalCluster(start_worker(job))

    def send(self, job, stage, shares, workers):
        for commit in self.local.send(job, stage, shares, workers):
            self.done += 1
            yield commit
            if self.done == 3 and self.end is not None:
                if isinstance(self.end, Exception):
                    raise self.end
                self.end()


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "RayCluster", Cluster)
    monkeypatch.setattr(Cluster, "end", None)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config_values(write_inputs(tmp_path), tmp_path / "store", tasks=[])))
    return path


@pytest.mark.parametrize("how", ENDS)
def test_it_says_what_is_kept_and_where_its_log_is_and_goes_on(config, monkeypatch, capsys, how):
    end, code, said = ENDS[how]
    monkeypatch.setattr(Cluster, "end", end if isinstance(end, Exception) else staticmethod(end))
    assert main(["score", str(config)]) == code
    first, kept, log = capsys.readouterr().err.splitlines()[-3:]
    assert first.startswith(said)
    # The calibration samples, and three of the ten sample ranges.
    assert kept == "4 of the 11 units that it has come to are done and kept"
    text = Path(log.removeprefix("log: ")).read_text()
    assert ("its last lines" in text) == (code == 1)
    assert ("KeyboardInterrupt" in text) == (code != 1)
    monkeypatch.setattr(Cluster, "end", None)
    assert main(["score", str(config)]) == 0
    done = re.search(r"Done: (\d+) units computed, 4 were done before", capsys.readouterr().out)
    assert done
    assert main(["status", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"done": 4 + int(done[1])}
    assert found["log"].startswith(str(config.parent / "store" / "runs" / "run" / "logs"))


def test_a_dry_run_tells_programs_what_there_is_to_do(config, capsys):
    assert main(["run", str(config), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    steps = {step["step"]: step for step in found["steps"]}
    assert (steps["score base"]["units"], steps["score base"]["todo"], steps["score base"]["stage"]) == (
        10,
        10,
        "score",
    )
    assert steps["score base"]["flops"] > 0
    assert found["todo"] == sum(step["todo"] for step in found["steps"])
    assert found["expected"] is None
    hardware = ["--set", "execution.gpus_per_worker=1", "--set", "execution.hardware=h100"]
    assert main(["run", str(config), "--dry-run", "--json", *hardware]) == 0
    assert json.loads(capsys.readouterr().out)["expected"]["gpu_hours"] > 0
    assert main(["run", str(config), "--json"]) == 2
    assert "--json goes with --dry-run" in capsys.readouterr().err
