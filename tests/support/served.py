"""`drop-ray serve` as a process, for as long as a test asks it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

# What a small model is served with on a CPU.
SETTINGS = ["--dtype=float32", "--enforce-eager", "--max-model-len=128", "--max-num-seqs=2"]


@contextmanager
def serving(command, folder, is_ready=None):
    """Runs `drop-ray` with these arguments, of which the last are vLLM's; (its URL, its process, its log).

    is_ready: whether it serves, by its URL and its log; if not given, whether it says that it is healthy.
    """
    url, log = f"http://127.0.0.1:{free_port()}", folder / "server.log"
    program = [sys.executable, "-m", "drop_ray", *command, "--port", url.rpartition(":")[2]]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    with log.open("w") as file:
        # Ray ends the processes of the group of whoever starts it: that shall not be these tests.
        server = subprocess.Popen(
            program, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while not (is_ready or is_healthy)(url, log):
            if server.poll() is not None:
                pytest.fail(log.read_text()[-5000:])
            time.sleep(0.5)
        yield url, server, log
    finally:
        server.kill()
        server.wait()


def is_healthy(url, log):
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
    return True


def post(url, **fields):
    request = urllib.request.Request(url, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
