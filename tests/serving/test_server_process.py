"""The server as a child: its output passes through, its end is ours, and what made it fail is said last."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from drop_ray.serving.server_process import root_cause, run_server

ENGINE = "(EngineCore pid=42) ERROR 11-29 21:50:21 [core.py:1136] "
SERVER = "(APIServer pid=7) "
FAILED_START = "\n".join(
    [
        f"{SERVER}INFO 11-29 21:50:01 [utils.py:233] non-default args: {{}}",
        f"{ENGINE}EngineCore failed to start.",
        f"{ENGINE}Traceback (most recent call last):",
        f'{ENGINE}  File "core.py", line 1110, in run_engine_core',
        f"{ENGINE}KeyError: 'layer 3'",
        ENGINE,
        f"{ENGINE}During handling of the above exception, another exception occurred:",
        ENGINE,
        f"{ENGINE}ValueError: To serve at least one request with the models's max seq len (4096), (2.0 GiB KV cache is",
        f"{ENGINE}  needed, which is larger than the available KV cache memory (1.0 GiB).",
        "(EngineCore pid=42) Process EngineCore:",
        "(EngineCore pid=42) Traceback (most recent call last):",
        "(EngineCore pid=42) RuntimeError: a later one",
        f"{SERVER}Traceback (most recent call last):",
        f"{SERVER}RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}",
    ]
)


def test_the_engines_own_exception_is_the_cause_whatever_the_server_says_last():
    assert root_cause(FAILED_START) == (
        "ValueError: To serve at least one request with the models's max seq len (4096), (2.0 GiB KV cache is\n"
        "  needed, which is larger than the available KV cache memory (1.0 GiB)."
    )


def test_a_gpus_process_is_nearer_to_the_cause_than_the_engine():
    worker = "(Worker_TP1 pid=5) ERROR 11-29 21:50:21 [multiproc_executor.py:850] torch.OutOfMemoryError: CUDA is full"
    assert root_cause(f"{FAILED_START}\n{worker}") == "torch.OutOfMemoryError: CUDA is full"


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("", None),
        ("INFO all is well", None),
        ("\x1b[31mOSError\x1b[0m: [Errno 98] address already in use", "OSError: [Errno 98] address already in use"),
        (
            f"{SERVER}pydantic_core.ValidationError: 1 validation error\n{SERVER}  too long\n{SERVER}\n",
            "pydantic_core.ValidationError: 1 validation error\n  too long",
        ),
        ("usage: api_server\napi_server.py: error: unrecognized arguments: --prot", "unrecognized arguments: --prot"),
        (f"{SERVER}RuntimeError: Engine core initialization failed. See root cause above.", None),
    ],
)
def test_other_ends(output, cause):
    assert root_cause(output) == cause


def script(text):
    return [sys.executable, "-c", text]


def test_output_and_exit_code_are_the_servers_and_the_cause_comes_last(capfdbinary):
    assert run_server(script(f"import sys; print('''{FAILED_START}''', file=sys.stderr); sys.exit(5)"), os.environ) == 5
    out, err = capfdbinary.readouterr()
    assert out.decode().strip() == FAILED_START
    assert err.decode().startswith("\ndrop-ray: vLLM's server ended with exit code 5: ValueError: To serve at least")
    assert "give the server less behind `--`: --max-model-len N" in err.decode()


def test_a_server_that_ends_well_or_is_killed(capfdbinary):
    assert run_server(script("print('done')"), os.environ) == 0
    assert capfdbinary.readouterr() == (b"done\n", b"")
    assert run_server(script("import os; os.kill(os.getpid(), 9)"), os.environ) == 137
    assert b"exit code -9: it said no reason" in capfdbinary.readouterr().err


PARENT = """
import os, sys
from drop_ray.runtime.termination import terminable
from drop_ray.serving.server_process import run_server
with terminable():
    sys.exit(run_server([sys.executable, "-c", sys.argv[1]], os.environ))
"""
CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_the_server_ends_with_its_parent_however_that_ends(number, code):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(number)
    assert parent.wait(timeout=30) == code
    end = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the server is still there"
        time.sleep(0.1)
