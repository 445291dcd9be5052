"""`drop-ray submit`: runs a config as a job of a Ray cluster, and follows it to its end."""

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ray.job_submission import JobDetails, JobStatus

from drop_ray.config import RunConfig
from drop_ray.config.secrets import secret_options
from drop_ray.errors import DropRayError, UserError
from drop_ray.runtime.job_client import NO_ANSWER, connect, first_line
from drop_ray.runtime.packaging import check_config_file, check_paths, make_package
from drop_ray.runtime.ray_private import NOT_FOUND, UPLOAD_LOGGER, JobClient
from drop_ray.runtime.termination import TERMINATED

logger = logging.getLogger(__name__)

POLL_S = 1.0
# The server returns a log only as a whole, so that a long one is asked for less often.
LOG_CHARACTERS_PER_S = 200_000
# Seconds for which the cluster may be out of reach before the command gives up. The job goes on.
UNREACHABLE_S = 300.0


class JobLostError(DropRayError):
    """The cluster can no longer be asked about the job."""


def submit(
    config: RunConfig,
    config_path: Path,
    overrides: Sequence[str],
    address: str,
    secrets: Sequence[str],
    stage: str,
    wait: bool,
) -> int:
    """Upload the working directory and run `stage` of the config there. Returns the job's exit code.

    `config` is what the file at `config_path` with the overrides says. `secrets` names variables of this process's
    environment that the job gets. With `wait`, the job's log is printed until it has ended, and an interrupt tells the
    job to stop. UserError before anything is uploaded.
    """
    environment = _environment(secrets)
    _check_secrets(config)
    # Ray would log every file that it leaves out, and the large ones; this module decides and says what is uploaded.
    logging.getLogger(UPLOAD_LOGGER).setLevel(logging.ERROR)
    package = make_package(Path.cwd(), config.store)
    path = check_config_file(package, config_path)
    for line in check_paths(package, config):
        logger.info("on the cluster's own disks, and not uploaded: %s", line)
    client = connect(address)
    runtime_env = {"working_dir": str(package.folder), "excludes": list(package.excludes), "env_vars": environment}
    try:
        job: str = client.submit_job(entrypoint=_entrypoint(stage, path, overrides), runtime_env=runtime_env)
    except NO_ANSWER as error:
        raise DropRayError(f"{address} did not take the job: {first_line(error)}") from error
    print(f"submitted {job} to {address}: {len(package.files)} files of {package.folder}", flush=True)
    if not wait:
        print(f"its log: ray job logs --follow --address {address} {job}")
        return 0
    try:
        return exit_code(follow(client, job, _print), _print)
    except KeyboardInterrupt:
        print(f"drop-ray: telling {job} to stop", file=sys.stderr)
        client.stop_job(job)
        raise


def follow(client: JobClient, job: str, write: Callable[[str], None]) -> JobDetails:
    """Write the job's log as it grows until the job has ended. Returns its last state.

    The whole log is asked for again and again. A tailed log would break off and start over when the connection fails;
    this way nothing is lost or printed twice. JobLostError after UNREACHABLE_S without an answer, or if the cluster has
    forgotten the job.
    """
    written = 0
    answered = time.monotonic()
    while True:
        try:
            # The state is asked for first, so that the log of a job that has ended is complete.
            info = client.get_job_info(job)
            log = client.get_job_logs(job)
            answered = time.monotonic()
        except NO_ANSWER as error:
            _check_lost(job, error, time.monotonic() - answered)
            time.sleep(POLL_S)
            continue
        if len(log) > written:
            write(log[written:])
            written = len(log)
        if info.status.is_terminal():
            return info
        time.sleep(max(POLL_S, written / LOG_CHARACTERS_PER_S))


def exit_code(info: JobDetails, write: Callable[[str], None]) -> int:
    """The driver's own exit code, or 1 if it never ran; for a stopped job 143, as a shell reports SIGTERM."""
    write(f"{info.submission_id} {info.status}\n")
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return TERMINATED
    if info.driver_exit_code is None:
        write(f"{info.message}\n")
        return 1
    # A negative code is a signal, which a shell reports as 128 more.
    code: int = info.driver_exit_code
    return code if code > 0 else 128 - code


def _environment(names: Sequence[str]) -> dict[str, str]:
    """The named variables of this process's environment.

    Values are not taken from the command line: they would appear in the shell's history and the process list.
    """
    given = [name for name in names if "=" in name]
    if given:
        raise UserError(
            f"--env {given[0].partition('=')[0]}: give only the name; the value is taken from this environment"
        )
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(f"--env {missing[0]}: there is no such variable in this environment; export it first")
    return {name: os.environ[name] for name in names}


def _check_secrets(config: RunConfig) -> None:
    """The config is uploaded and its overrides stand in the job's command, which whoever sees the cluster can read."""
    secret = secret_options(config.execution.store_options)
    if secret:
        raise UserError(
            f"execution.store_options.{secret[0]}: everyone on the cluster could read it; take it out of the config, "
            "and hand on AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by --env, or give the nodes a role"
        )


def _entrypoint(stage: str, config: str, overrides: Sequence[str]) -> str:
    # With `-m` the working directory comes first on the path: its drop_ray, if it has one, wins over the image's.
    command = ["python", "-m", "drop_ray", stage, config]
    return shlex.join(command + [part for override in overrides for part in ("--set", override)])


def _check_lost(job: str, error: Exception, silent_s: float) -> None:
    if NOT_FOUND in str(error):
        raise JobLostError(f"{job}: the cluster does not know it any more; its head was started anew") from error
    logger.debug("no answer about %s: %s", job, error)
    if silent_s > UNREACHABLE_S:
        raise JobLostError(
            f"{job}: the cluster gave no answer for {UNREACHABLE_S:.0f} s ({error}); the job may go on, "
            "`drop-ray status` shows it"
        ) from error


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
