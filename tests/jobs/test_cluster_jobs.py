"""Jobs on a real cluster of two nodes, with dashboard and token: their ends, their logs, and how they are stopped."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
from local_cluster import FORWARDED

SECRET = "the-secret-key-of-the-store"
# The demo model on many samples, one a unit: long enough to be met at work.
LONG = ("--set", "model.path=demo:model", "--set", "calibration.source=demo:calibration.jsonl")
LONG += ("--set", "calibration.num_samples=250", "--set", "calibration.seq_len=256", "--set", "scoring.range_size=1")
LONG += ("--set", "plans=[]", "--set", "evaluation={}", "--stage", "score")


@pytest.fixture
def submit(cluster, submit_folder, monkeypatch):
    """Run `drop-ray submit` to its end: the result."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def run(*arguments, **environment):
        return subprocess.run(
            cluster.command(*arguments),
            cwd=submit_folder,
            env=cluster.client_environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def start(cluster, folder, *arguments):
    command = cluster.command(*arguments)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=folder, env=cluster.client_environment, preexec_fn=listen, **options)


def read_until(process, pattern):
    """The output up to a line that matches, and the match."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(pattern, line):
            return "".join(lines), found
    raise AssertionError("".join(lines))


def job_of(output):
    return re.search(r"raysubmit_\w+", output).group()


def supervisor_log(cluster, job):
    (path,) = cluster.folder.glob(f"n*/session_2*/logs/jobs/supervisor-{job}.log")
    return path.read_text()


def test_a_job_that_succeeds_and_one_that_fails(submit, cluster):
    done = submit("--stage", "plan")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 were done before" in done.stdout
    assert "plans:  s3://artifacts/submit/runs/run/plans/" in done.stdout
    assert f"{job_of(done.stdout)} SUCCEEDED" in done.stdout

    failed = submit("--stage", "evaluate", "--set", "evaluation.tasks=[broken]")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert " on broken failed" in failed.stdout  # of the base or of a variant: whichever is first
    assert "FAILED" in failed.stdout

    for result in (done, failed):
        assert SECRET not in result.stdout + result.stderr
        assert SECRET not in supervisor_log(cluster, job_of(result.stdout))


@pytest.mark.nightly
def test_a_job_that_is_stopped_ends_by_itself_and_is_no_success(cluster, submit_folder):
    process = start(cluster, submit_folder, *LONG, "--set", "store=s3://artifacts/stopped")
    output, _ = read_until(process, "sample ranges to do")
    job = job_of(output)
    stop = [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", "--address", cluster.address, job]
    subprocess.run(stop, env=cluster.client_environment, capture_output=True, check=True)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "drop-ray: terminated; run the same command again to go on" in rest
    assert f"{job} STOPPED" in rest
    # Not killed some time after it was asked to end.
    assert "terminated gracefully with SIGTERM" in supervisor_log(cluster, job)


def test_another_token_is_refused(submit):
    refused = submit(RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 2
    assert "wants another token" in refused.stderr


@pytest.mark.nightly
def test_the_whole_run_as_a_job_and_one_with_bad_input(submit):
    done = submit("--set", "store=s3://artifacts/whole")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: s3://artifacts/whole/runs/run/report.html" in done.stdout
    refused = submit("--set", "plans.0.drop=9")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "plans[0].drop: 9 is more than the model's 4" in refused.stdout


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.nightly)]
)
def test_an_interrupted_command_stops_its_job_whose_units_stay_done(cluster, submit_folder, number, code):
    arguments = (*LONG, "--set", f"store=s3://artifacts/interrupted-{code}")
    process = start(cluster, submit_folder, *arguments)
    output, _ = read_until(process, r"[1-9]\d*/250 sample ranges")
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == code, rest
    job = job_of(output)
    assert f"telling {job} to stop" in rest
    follow = [sys.executable, "-m", "ray.scripts.scripts", "job", "logs", "--follow", "--address", cluster.address, job]
    log = subprocess.run(follow, env=cluster.client_environment, capture_output=True, text=True, timeout=120).stdout
    assert "drop-ray: terminated" in log
    assert "terminated gracefully with SIGTERM" in supervisor_log(cluster, job)

    again = start(cluster, submit_folder, *arguments)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    computed, found = map(int, re.search(r"Done: (\d+) units computed, (\d+) were done before", output).groups())
    assert found > 1
    # With the calibration samples and the table of all scores.
    assert computed + found == 252


@pytest.mark.nightly
def test_a_driver_ends_within_two_seconds_of_sigterm(cluster, submit_folder):
    """The requirement; the bound leaves room for a machine that is busy with other things."""
    process = start(cluster, submit_folder, *LONG, "--set", "store=s3://artifacts/sigterm")
    _, _ = read_until(process, r"[1-9]\d*/250 sample ranges")
    (driver,) = [found for found in psutil.process_iter(["cmdline"]) if _is_driver(found.info["cmdline"] or [])]
    driver.send_signal(signal.SIGTERM)
    driver.wait(timeout=6)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.nightly
def test_stage_entries_run_as_jobs_of_rays_own_command(cluster, submit_folder):
    jobs = Path(__file__).parents[2] / "jobs"
    (submit_folder / "jobs").mkdir()
    (submit_folder / "jobs" / "run_plan.py").write_text((jobs / "run_plan.py").read_text())
    variables = {name: os.environ[name] for name in FORWARDED}
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.address]
    command += ["--working-dir", ".", "--runtime-env-json", json.dumps({"env_vars": variables})]
    command += ["--", "python", "jobs/run_plan.py", "run.yaml", "--set", "store=s3://artifacts/entry"]
    options = {"cwd": submit_folder, "env": cluster.client_environment, "capture_output": True, "text": True}
    result = subprocess.run(command, **options, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "plans:  s3://artifacts/entry/runs/run/plans/" in result.stdout


def test_a_rayjobs_driver_with_bad_input_ends_as_stopped_which_kuberay_does_not_try_again(cluster, submit_folder):
    script = Path(__file__).parents[2] / "jobs" / "as_rayjob.py"
    variables = {name: os.environ[name] for name in FORWARDED} | {"RAY_API_SERVER_ADDRESS": cluster.address}
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", cluster.address, "--no-wait"]
    command += ["--submission-id", "drop-ray-refused", "--runtime-env-json", json.dumps({"env_vars": variables})]
    command += ["--", "python", str(script), str(submit_folder / "run.yaml"), "--set", "modle=1"]
    options = {"env": cluster.client_environment, "capture_output": True, "text": True, "timeout": 120}
    subprocess.run(command, **options, check=True)
    # As KubeRay's submitter follows a job: it ends with 0 then, however the job has.
    ray_job = [sys.executable, "-m", "ray.scripts.scripts", "job"]
    of_job = ["--address", cluster.address, "drop-ray-refused"]
    log = subprocess.run([*ray_job, "logs", "--follow", *of_job], **options)
    assert log.returncode == 0, log.stderr
    assert "modle: unknown key; did you mean `model`?" in log.stdout
    assert "stopping drop-ray-refused: with this input another attempt would end the same" in log.stdout
    status = subprocess.run([*ray_job, "status", *of_job], **options)
    assert "was stopped" in status.stdout + status.stderr


def _is_driver(arguments):
    return arguments[1:4] == ["-m", "drop_ray", "score"] and "store=s3://artifacts/sigterm" in arguments
