"""Runs whose store is on S3: who reads and writes what there, an outage in the middle, two drivers at once."""

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from checkpoint_forms import upload
from tcp_proxy import TcpProxy
from tiny_run import config_of, write_config

from drop_ray.errors import UserError
from drop_ray.job.ledger import read_manifest
from drop_ray.job.run_store import store_of
from drop_ray.job.verify import verify
from drop_ray.pipeline import run
from drop_ray.store import open_store, s3, s3_connection

CREDENTIALS = {"key": "test", "secret": "test"}
OUTAGE_S = 20


def checksums(config):
    """Of every artifact of the run, by its path; all of them must be there."""
    store = store_of(config)
    return {step.path: store.find(step).checksum for _, _, step in read_manifest(store, "runs/run")}


def test_weights_and_checkpoints_pass_between_s3_and_workers_only_and_a_node_fetches_a_model_once(
    inputs, local_ray, s3_server, s3_url, tmp_path, monkeypatch
):
    """The driver calls the server by another name than the workers do, and so can be told from them."""
    driver, worker = "127.0.0.1", "localhost"
    requests = []

    def watch(moto, environ, start_response):
        path = environ["PATH_INFO"].partition(s3_url.rpartition("/")[2])[2]
        requests.append((environ["HTTP_HOST"].partition(":")[0], environ["REQUEST_METHOD"], path))
        return moto(environ, start_response)

    def connect_driver(options):
        return connect({**options, "endpoint_url": s3_server.url})

    connect = s3_connection.connect
    monkeypatch.setattr(s3, "connect", connect_driver)
    monkeypatch.setattr(s3_connection, "connect", connect_driver)
    upload(inputs / "model", f"{s3_url}/model")
    s3_server.fault = watch
    options = {"endpoint_url": s3_server.url.replace(driver, worker), **CREDENTIALS}
    execution = {"num_workers": 2, "cpus_per_worker": 0.5, "store_options": options}
    config = config_of(
        inputs,
        f"{s3_url}/store",
        model={"path": f"{s3_url}/model", "dtype": "float32"},
        export="all",
        execution={**execution, "cache_dir": str(tmp_path / "cache")},
    )
    run(config, "export")
    written = {
        name: [path for who, method, path in requests if (who, method) == (name, "PUT")] for name in (driver, worker)
    }
    assert any("/checkpoint/model" in path for path in written[worker])
    assert not any("/checkpoint/" in path for path in written[driver])
    assert "/store/runs/run/config.yaml" in written[driver]
    read = Counter(path for who, method, path in requests if (who, method) == (worker, "GET") and "/model/" in path)
    for weights in (inputs / "model").glob("*.safetensors"):
        assert read[f"/model/{weights.name}"] == 1, "both workers use what one of them fetched"
    assert verify(config).faults == []


@pytest.mark.nightly
def test_engines_serve_a_model_on_s3_from_the_cache(inputs, local_ray, s3_server, s3_url, tmp_path):
    upload(inputs / "model", s3_url)
    serving = {
        "engine": "transformers",
        "workloads": [{"prompt": 24, "output": 8}],
        "batch_sizes": [2],
        "plans": ["attention-2"],
        "kv_cache_bytes": 1 << 20,
    }
    execution = {"store_options": {"endpoint_url": s3_server.url, **CREDENTIALS}}
    fields = {"model": {"path": s3_url, "dtype": "float32"}, "evaluation": {}, "serving": serving}
    with pytest.raises(UserError, match=r"serving: engines read local files; set execution\.cache_dir"):
        run(config_of(inputs, tmp_path / "store", execution=execution, **fields), "bench")
    execution["cache_dir"] = str(tmp_path / "cache")
    outcome = run(config_of(inputs, tmp_path / "store", execution=execution, **fields), "bench")
    assert list(outcome.serving) == ["base", "attention-2"]


@pytest.mark.full
def test_a_run_goes_on_after_s3_was_out_of_reach_for_20_s(inputs, local_ray, s3_server, s3_url, tmp_path, caplog):
    calm = config_of(inputs, tmp_path / "calm")
    run(calm)
    proxy = TcpProxy(s3_server.url)
    options = {"endpoint_url": proxy.url, **CREDENTIALS}
    config = config_of(inputs, s3_url, execution={"num_workers": 2, "cpus_per_worker": 0.5, "store_options": options})
    watched = open_store(s3_url, {"endpoint_url": s3_server.url})
    cuts = []

    def cut_when_there_is(stage):
        while not any(name.startswith(f"{stage}-") and watched.commit_at(name) for name in watched.list("artifacts")):
            time.sleep(0.01)
        proxy.cut()
        time.sleep(OUTAGE_S)
        proxy.restore()
        cuts.append(stage)

    def cut_twice():
        cut_when_there_is("score-range")
        cut_when_there_is("evaluate")

    cutter = threading.Thread(target=cut_twice)
    cutter.start()
    started = time.monotonic()
    run(config)
    cutter.join()
    assert cuts == ["score-range", "evaluate"]
    assert time.monotonic() - started > 2 * OUTAGE_S
    assert checksums(config) == checksums(calm)
    assert verify(config).faults == []


@pytest.mark.full
@pytest.mark.parametrize("kind", [pytest.param("local", marks=pytest.mark.nightly), "s3"])
def test_two_drivers_of_one_run_at_once_give_one_result(inputs, local_ray, request, tmp_path, kind):
    calm = config_of(inputs, tmp_path / "calm", export="all")
    run(calm)
    execution = {"num_workers": 1, "cpus_per_worker": 0.5}
    store = str(tmp_path / "store")
    if kind == "s3":
        store = request.getfixturevalue("s3_url")
        execution["store_options"] = {"endpoint_url": request.getfixturevalue("s3_server").url, **CREDENTIALS}
    fields = {"export": "all", "execution": execution}
    path = write_config(tmp_path / "run.yaml", inputs, store, **fields)
    drivers = [
        subprocess.Popen(
            [Path(sys.executable).parent / "drop-ray", "run", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [driver.communicate(timeout=500)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], "\n\n".join(outputs)
    config = config_of(inputs, store, **fields)
    found = checksums(config)
    assert found == checksums(calm)
    assert verify(config).faults == []
    opened = store_of(config)
    for folder in found:
        assert len(opened.list(folder)) == 2, "one attempt and its record"
