"""What goes wrong without anybody dying: a worker that hangs, a full disk, credentials that expire, two drivers.

Each lets it happen to a run, has the run finish, and returns it with the records that stood when the fault came (by
artifact, their attempts), and the number of units that were given out a second time.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from fault_run import ENVIRONMENT, LIMIT_S, FaultRun, TinyCluster, busy_workers, wait_until

Outcome = tuple[FaultRun, dict[str, str], int]

# The records of ninety sample ranges do not fit.
DISK_BYTES = 600_000
# A mount of its own for one process, which needs no rights: the store fills it, and it grows before the second start.
FILL_A_DISK = """
mount -t tmpfs -o size={size} none {store} || exit 99
{run} > {log} 2>&1
code=$?
cp -r {store} {middle}
mount -o remount,size=200m {store}
{run} >> {log} 2>&1 || exit 98
cp -r {store}/. {copy}
exit $code
"""
TOKEN_S, RENEWED_S = 6.0, 3.0


def a_worker_hangs(inputs: Path, folder: Path) -> Outcome:
    """A process that is stopped answers nothing, and does not end when Ray asks it to."""
    with TinyCluster() as cluster:
        run = FaultRun(cluster, inputs, folder, unit_timeout=5).start()
        before = run.wait_for("scoring")
        wait_until(lambda: bool(busy_workers()), "no worker was busy: the fault came too late")
        frozen = busy_workers()[0]
        os.kill(frozen.pid, signal.SIGSTOP)
        assert run.finish() == 0, run.log.read_text()
        log = run.log.read_text()
        assert re.search(rf"no answer for .* from worker {frozen.pid} on .*; another worker is asked too", log), log
        assert re.search(rf"from worker {frozen.pid} on \S+, which is", log), log
        wait_until(lambda: not frozen.is_running(), "the worker that hung is still there")
        return run, before, len(re.findall("another worker is asked too", log))


def the_disk_fills(inputs: Path, folder: Path) -> Outcome:
    run = FaultRun(None, inputs, folder)
    mounted, middle = Path(run.store_url), folder / "middle"
    mounted.mkdir()
    copy = folder / "copy"
    copy.mkdir()
    command = f"{sys.executable} -m drop_ray run {run.config}"
    script = FILL_A_DISK.format(size=DISK_BYTES, store=mounted, run=command, log=run.log, middle=middle, copy=copy)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], env={**environment, **ENVIRONMENT}, timeout=LIMIT_S, check=False
    )
    log = run.log.read_text()
    assert done.returncode == 1, f"{done.returncode}\n{log}"
    assert "No space left on device; free some (`drop-ray gc` lists what nobody needs)" in log, log
    assert "Traceback" not in log, log
    before = FaultRun(None, inputs, folder / "before", store=str(middle)).attempts()
    return FaultRun(None, inputs, folder / "after", store=str(copy)), before, 1


def credentials_expire(inputs: Path, folder: Path) -> Outcome:
    """A profile's file that is written anew, each time with a token that the service takes for a short while only."""
    from s3_server import S3Server, answer

    server, credentials = S3Server(), folder.with_suffix(".credentials")
    refused: list[str] = []

    def check(moto, environ, start_response):
        token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "T0")
        if time.monotonic() - float(token[1:]) < TOKEN_S:
            return moto(environ, start_response)
        refused.append(token)
        return answer(start_response, "400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>")

    def renew():
        text = f"[default]\naws_access_key_id=K\naws_secret_access_key=s\naws_session_token=T{time.monotonic()}\n"
        new = credentials.with_suffix(".new")
        new.write_text(text)
        new.replace(credentials)

    os.environ.update(
        AWS_SHARED_CREDENTIALS_FILE=str(credentials), AWS_ENDPOINT_URL=server.url, AWS_DEFAULT_REGION="us-east-1"
    )
    import boto3

    renew()
    boto3.client("s3").create_bucket(Bucket="artifacts")
    server.fault = check
    with repeated(renew, RENEWED_S), TinyCluster() as cluster:
        run = FaultRun(cluster, inputs, folder, store="s3://artifacts/run").start()
        before = run.wait_for("scoring")
        assert run.finish() == 0, run.log.read_text()
        assert len(refused) > 1, "no token expired"
    server.fault = None
    return run, before, 0


def two_drivers(inputs: Path, folder: Path) -> Outcome:
    with TinyCluster(num_nodes=4) as cluster:
        run = FaultRun(cluster, inputs, folder).start()
        before = run.wait_for("scoring")
        # The first one waits, or on a slow machine it would be over before the second one has started.
        run.driver.send_signal(signal.SIGSTOP)
        second = cluster.start_driver(run.config, folder / "second.log")
        log = folder / "second.log"
        wait_until(lambda: "another driver works on this run" in log.read_text(), "the second driver saw no other")
        run.driver.send_signal(signal.SIGCONT)
        assert second.wait(LIMIT_S) == 0, (folder / "second.log").read_text()
        assert run.finish() == 0, run.log.read_text()
    second_log = (folder / "second.log").read_text()
    assert f"another driver works on this run: process {run.driver.pid} on" in second_log, second_log
    alone = shares_sent(folder.parent / "undisturbed" / "driver.log")
    return run, before, shares_sent(run.log) + shares_sent(folder / "second.log") - alone


def shares_sent(log: Path) -> int:
    """The number of shares that a driver gave to workers, by its log."""
    text = log.read_text()
    to_do = sum(int(count) for count in re.findall(r": (\d+) .* to do$", text, re.MULTILINE))
    return to_do - len(re.findall(r" was done by another driver", text))


FURTHER: dict[str, tuple[str, Callable[[Path, Path], Outcome]]] = {
    "hung worker": ("scoring", a_worker_hangs),
    "full disk": ("scoring", the_disk_fills),
    "credentials": ("all stages", credentials_expire),
    "two drivers": ("all stages", two_drivers),
}


@contextmanager
def repeated(action: Callable[[], None], seconds: float):
    """Do something every so many seconds, in a thread."""
    ended = Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            action()

    thread = Thread(target=repeat, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()
