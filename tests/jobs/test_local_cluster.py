"""cluster/local.sh: what it refuses, and that it starts and stops as often as one likes, leaving nothing behind."""

import subprocess

import pytest
from local_cluster import SCRIPT, LocalCluster

pytestmark = pytest.mark.alone


@pytest.fixture
def local():
    local = LocalCluster()
    yield local
    local.run("stop")
    if local.folder.exists():
        local.folder.rmdir()


def test_it_says_how_it_is_used(local):
    assert "cluster/local.sh start [--nodes 3]" in local.run()
    assert local.code == 2
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0


def test_what_does_not_fit_is_refused_and_nothing_started(local):
    assert "--node is not an option" in local.run("start", "--node", "2")
    assert local.code == 1
    assert "no cluster runs" in local.run("status")
    assert local.code == 1
    assert list(local.folder.iterdir()) == []


def test_a_folder_with_other_files_is_never_removed(local):
    precious = local.folder / "precious.txt"
    precious.touch()
    assert "has files that are not a cluster's" in local.run("start", "--nodes", "1")
    assert local.code == 1
    local.run("stop")
    assert precious.exists()
    precious.unlink()


@pytest.mark.nightly
def test_it_starts_again_after_a_stop_and_only_then(local):
    for _ in range(2):
        assert "A Ray cluster of 2 nodes" in local.run("start", "--nodes", "2", "--cpus", "1", "--gpus", "4")
        token = (local.folder / "auth_token").read_text()
        assert len(token) == 64
        assert token not in local.output
        assert f"2 nodes alive at {local.address}" in local.run("status")
        assert "a cluster runs already" in local.run("start")
        assert local.code == 1
        assert len(local.processes) > 4
        local.run("stop")
        assert local.code == 0
        assert local.processes == []
        assert not local.folder.exists()
        local.folder.mkdir()


@pytest.mark.nightly
def test_a_cluster_that_lost_its_head_is_replaced(local):
    local.run("start", "--nodes", "2", "--cpus", "1")
    head = min(local.processes, key=lambda process: process.pid)
    for process in [*head.children(recursive=True), head]:
        process.kill()
    local.run("stop")
    assert local.processes == []
    local.folder.mkdir(exist_ok=True)
    assert "A Ray cluster of 1 nodes" in local.run("start", "--nodes", "1")
