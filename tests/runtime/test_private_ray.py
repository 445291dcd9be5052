"""The private parts of Ray that drop_ray/runtime/ray_private.py stands on."""

import json
from functools import partial

import pytest
import ray as remote_ray
from canaries import canary, check_parameters

from drop_ray.runtime.ray_private import (
    NOT_FOUND,
    TIMEOUT,
    UPLOAD_LOGGER,
    JobClient,
    get_note,
    own_job,
    put_note,
)

ray = partial(canary, "ray")
CLIENT = "ray.job_submission:JobSubmissionClient"


def test_patterns_are_those_of_a_gitignore(tmp_path):
    with ray("ray._private.runtime_env.packaging:_get_excludes") as get_excludes:
        check_parameters(get_excludes, "path", "excludes")
        is_excluded = get_excludes(tmp_path, ["*.pem", "/only-here"])
        found = [is_excluded(tmp_path / name) for name in ("a/key.pem", "only-here", "a/only-here", "key.txt")]
        assert found == [True, True, False, False]


@pytest.mark.parametrize(("include_gitignore", "names"), [(True, {"kept"}), (False, {"kept", "of-git"})])
def test_the_walk_calls_for_every_path_that_no_file_names(tmp_path, include_gitignore, names):
    with ray("ray._private.runtime_env.packaging:_dir_travel") as travel:
        check_parameters(travel, "path", "excludes", "handler", "include_gitignore")
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in ("kept", "of-git", "of-ray", "of-us"):
            (folder / name).touch()
        (folder / ".gitignore").write_text("of-git\n")
        (folder / ".rayignore").write_text("of-ray\n")
        seen = []
        travel(tmp_path, [lambda path: path.name == "of-us"], seen.append, include_gitignore=include_gitignore)
        paths = {tmp_path, folder, folder / ".gitignore", folder / ".rayignore"} | {folder / name for name in names}
        assert sorted(seen) == sorted(paths)


def test_ray_leaves_out_patterns_of_its_own(monkeypatch):
    monkeypatch.delenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", raising=False)
    with ray("ray._private.ray_constants:get_runtime_env_default_excludes") as default_excludes:
        check_parameters(default_excludes)
        assert {".git", ".venv"} <= {pattern.strip("/") for pattern in default_excludes()}


def test_the_variable_that_has_gitignores_passed_over():
    with ray("ray._private.ray_constants:RAY_RUNTIME_ENV_IGNORE_GITIGNORE") as name:
        assert name == "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"


def test_uploads_are_logged_below_one_name():
    with ray("ray._private.runtime_env.packaging:default_logger") as logger:
        assert logger.name.startswith(f"{UPLOAD_LOGGER}.")


def test_a_client_passes_the_timeout_on_and_says_the_status(monkeypatch):
    class Answer:
        status_code, text = 404, "no such job"

        def json(self):
            return {"version": "4", "ray_version": "2.60.0"}

    sent = []
    with ray(f"{CLIENT}._do_request") as do_request:
        check_parameters(do_request, "self", "method", "endpoint")
        monkeypatch.setattr("requests.request", lambda *args, **options: sent.append((args, options)) or Answer())
        client = JobClient.__new__(JobClient)
        client._address, client._cookies, client._headers, client._verify = "http://head:8265", None, None, True
        assert client.ray_version() == "2.60.0"
        [(arguments, options)] = sent
        assert arguments == ("GET", "http://head:8265/api/version")
        assert options["timeout"] == TIMEOUT
        with pytest.raises(RuntimeError, match=NOT_FOUND):
            client.get_job_info("job")


@pytest.mark.alone
def test_a_note_is_kept_for_every_process_of_the_cluster(local_ray):
    with ray("ray.experimental.internal_kv:_internal_kv_put") as put:
        check_parameters(put, "key", "value", "overwrite", "namespace")
    with ray("ray.experimental.internal_kv:_internal_kv_get") as get:
        check_parameters(get, "key", "namespace")
    assert get_note("progress/of-nobody") is None
    remote_ray.get(remote_ray.remote(put_note).remote("progress/of-a-worker", b"1"))
    remote_ray.get(remote_ray.remote(put_note).remote("progress/of-a-worker", b"2"))
    assert get_note("progress/of-a-worker") == b"2"


def test_a_server_says_the_version_of_its_ray():
    with ray("ray.dashboard.modules.version:VersionResponse") as response:
        assert "ray_version" in response.__dataclass_fields__


def test_a_driver_is_told_the_id_of_its_job(monkeypatch):
    with ray("ray._private.runtime_env.constants:RAY_JOB_CONFIG_JSON_ENV_VAR") as variable:
        monkeypatch.delenv(variable, raising=False)
        assert own_job() is None
        with ray("ray.dashboard.modules.job.common:JOB_ID_METADATA_KEY") as key:
            monkeypatch.setenv(variable, json.dumps({"runtime_env": {}, "metadata": {key: "drop-ray-x"}}))
            assert own_job() == "drop-ray-x"
