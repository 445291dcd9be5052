"""A Ray cluster of two nodes with dashboard and token, and a folder to submit from."""

from pathlib import Path

import pytest
import tiny_run
import yaml
from local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster(s3_server):
    cluster = LocalCluster()
    cluster.run("start", "--nodes", "2", "--cpus", "2")
    assert cluster.code == 0, cluster.output
    yield cluster
    cluster.run("stop")
    assert cluster.processes == []
    assert not cluster.folder.exists()


@pytest.fixture(scope="module")
def submit_folder(tmp_path_factory):
    """A working directory with the tiny run's inputs and config; no code of drop_ray: the cluster's own is used."""
    folder = tiny_run.write_inputs(tmp_path_factory.mktemp("submit"))
    values = tiny_run.config_values(Path(), "s3://artifacts/submit", execution={"num_workers": 2})
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return folder
