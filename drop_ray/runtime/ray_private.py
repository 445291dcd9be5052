"""What drop_ray uses of Ray outside its public interface: uploads, requests to a job server, a job's id, notes.

tests/runtime/test_private_ray.py checks every part of it, and names the version of Ray that changed one.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE, get_runtime_env_default_excludes
from ray._private.runtime_env import packaging
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import RayError
from ray.experimental import internal_kv
from ray.job_submission import JobSubmissionClient

# Of every module that makes and unpacks uploads: Ray has no setting for what it says of each file.
UPLOAD_LOGGER = "ray._private.runtime_env"
# In the text of the error for a job that the server does not know; errors have no field for the status.
NOT_FOUND = "status code 404"
# Seconds to connect, and between two bytes of an answer; an upload counts as an answer that comes late.
TIMEOUT = (10, 120)
NOTES = "drop_ray"


def uploaded_files(folder: Path, excludes: Iterable[str]) -> list[Path]:
    """The files that Ray would upload as the working directory `folder`, by its own walk.

    No function of Ray says what it would upload. Expected of `_get_excludes(folder, patterns)`: whether a path matches
    patterns as in a .gitignore; of `_dir_travel(folder, excludes, handler, include_gitignore)`: that it calls `handler`
    with every file and folder that neither `excludes` nor a .gitignore or .rayignore on the way names; of
    `get_runtime_env_default_excludes()`: the patterns that Ray adds itself.
    """
    found: list[Path] = []

    def add(path: Path) -> None:
        if path.is_file():
            found.append(path)

    is_excluded = packaging._get_excludes(folder, [*get_runtime_env_default_excludes(), *excludes])
    include_gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    packaging._dir_travel(folder, [is_excluded], add, include_gitignore=include_gitignore)
    return found


def own_job() -> str | None:
    """The id of the submitted job whose driver this process is; None if it is none.

    Expected of the variable: it is set for drivers, to JSON that has the id as `job_submission_id` of its `metadata`.
    """
    text = os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR)
    return json.loads(text)["metadata"]["job_submission_id"] if text else None


class JobClient(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which would wait for an answer for ever: it has no argument for a timeout.

    Expected of `_do_request(method, endpoint, **options)`: every request is made by it, and `options` are passed to
    `requests.request`.
    """

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=TIMEOUT, **options)

    def ray_version(self) -> str:
        """The cluster's version of Ray; `get_version` gives that of the interface. KeyError or ValueError if the
        server is no Ray."""
        return str(self._do_request("GET", "/api/version").json()["ray_version"])


def put_note(key: str, value: bytes) -> None:
    """Keep a few bytes in the cluster's own key-value store, where every process of the cluster finds them.

    Ray's public ways would take a process more, or another thread in each worker. Expected of `_internal_kv_put(key,
    value, overwrite, namespace=)`: it keeps the value until the cluster ends.
    """
    with suppress(RayError):
        internal_kv._internal_kv_put(key, value, overwrite=True, namespace=NOTES)


def get_note(key: str) -> bytes | None:
    """What was kept last; None if there is nothing. Expected of `_internal_kv_get(key, namespace=)`."""
    try:
        note: bytes | None = internal_kv._internal_kv_get(key, namespace=NOTES)
    except RayError:
        return None
    return note
