"""A run on Kubernetes is started from a held RayJob, against a server that answers as its API does."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import certifi
import pytest

from drop_ray.errors import UserError
from drop_ray.runtime import kubernetes, rayjob_start
from drop_ray.runtime.kubernetes import KubernetesError, RayJobs, rayjobs_of_this_pod
from drop_ray.runtime.rayjob_start import start

FOLDER = "/apis/ray.io/v1/namespaces/drop-ray/rayjobs"
HELD = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {
        "name": "drop-ray",
        "namespace": "drop-ray",
        "uid": "u-1",
        "resourceVersion": "7",
        "labels": {"team": "a"},
        "annotations": {rayjob_start.APPLIED: "{}", "note": "kept"},
    },
    "spec": {"suspend": True, "entrypoint": "python x", "backoffLimit": 2},
    "status": {"jobDeploymentStatus": "Suspended"},
}


class Api(ThreadingHTTPServer):
    """The RayJobs of a namespace. A deleted one is still there for `lingering` requests, as while its pods end."""

    def __init__(self, *jobs, lingering=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs = {job["metadata"]["name"]: job for job in jobs}
        self.lingering, self.deleted, self.tokens, self.refusal = lingering, {}, set(), None

    @property
    def client(self):
        return RayJobs(f"http://127.0.0.1:{self.server_address[1]}", "drop-ray", "the-token", None)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self._name()
        if name in self.server.deleted:
            self.server.deleted[name] -= 1
            if self.server.deleted[name] < 0:
                self.server.jobs.pop(name, None)
        self._answer(self.server.jobs.get(name))

    def do_DELETE(self):
        name = self._name()
        self.server.deleted[name] = self.server.lingering
        self._answer(self.server.jobs.get(name))

    def do_POST(self):
        assert self.path == FOLDER
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert job["metadata"]["name"] not in self.server.jobs
        self.server.jobs[job["metadata"]["name"]] = job
        self._answer(job)

    def log_message(self, *_):
        pass

    def _name(self):
        folder, _, name = self.path.rpartition("/")
        assert folder == FOLDER
        self.server.tokens.add(self.headers["Authorization"])
        return name

    def _answer(self, found):
        code = self.server.refusal or (404 if found is None else 200)
        body = found if code == 200 else {"kind": "Status", "message": "rayjobs.ray.io is forbidden"}
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def serve(monkeypatch):
    """Start an API server with RayJobs."""
    monkeypatch.setattr(rayjob_start, "POLL_S", 0.01)
    servers = []

    def begin(*jobs, **options):
        servers.append(Api(*jobs, **options))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def run_in(state):
    return {"metadata": {"name": "drop-ray-run"}, "spec": {}, "status": {"jobDeploymentStatus": state}}


def test_the_copy_runs_and_goes_with_the_held_one(serve):
    api = serve(HELD)
    start(api.client, "drop-ray", "drop-ray-run")
    assert api.jobs["drop-ray"] == HELD
    assert api.jobs["drop-ray-run"] == {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": "drop-ray-run",
            "namespace": "drop-ray",
            "labels": {"team": "a"},
            "annotations": {"note": "kept"},
            "ownerReferences": [{"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "drop-ray", "uid": "u-1"}],
        },
        "spec": {"suspend": False, "entrypoint": "python x", "backoffLimit": 2},
    }
    assert api.tokens == {"Bearer the-token"}


def test_with_a_queue_kueue_begins_it(serve):
    api = serve(HELD)
    start(api.client, "drop-ray", "drop-ray-run", "night")
    copied = api.jobs["drop-ray-run"]
    assert copied["metadata"]["labels"] == {"team": "a", "kueue.x-k8s.io/queue-name": "night"}
    assert copied["spec"]["suspend"] is True


@pytest.mark.parametrize("state", sorted(rayjob_start.ENDED))
def test_a_run_that_has_ended_makes_room_when_it_is_gone(serve, state):
    api = serve(HELD, run_in(state), lingering=3)
    start(api.client, "drop-ray", "drop-ray-run")
    assert api.jobs["drop-ray-run"]["spec"]["entrypoint"] == "python x"
    assert api.deleted["drop-ray-run"] < 0


@pytest.mark.parametrize("state", ["", "Initializing", "Running", "Retrying", "Suspended", "Waiting"])
def test_a_run_that_goes_on_is_left_alone(serve, state):
    api = serve(HELD, run_in(state))
    with pytest.raises(UserError, match=rf"has not ended \({state or 'new'}\).*delete rayjob drop-ray-run"):
        start(api.client, "drop-ray", "drop-ray-run")
    assert api.jobs["drop-ray-run"] == run_in(state)


def test_a_run_that_is_being_deleted_is_waited_for(serve):
    leaving = run_in("Running")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    api = serve(HELD, leaving, lingering=2)
    start(api.client, "drop-ray", "drop-ray-run")
    assert "entrypoint" in api.jobs["drop-ray-run"]["spec"]


def test_one_that_never_goes_is_said(serve, monkeypatch):
    monkeypatch.setattr(rayjob_start, "GONE_S", 0.05)
    api = serve(HELD, run_in("Failed"), lingering=10**6)
    with pytest.raises(KubernetesError, match="drop-ray-run is still there"):
        start(api.client, "drop-ray", "drop-ray-run")


def test_there_must_be_a_held_one(serve):
    with pytest.raises(UserError, match="no RayJob drop-ray in the namespace drop-ray"):
        start(serve().client, "drop-ray", "drop-ray-run")
    with pytest.raises(UserError, match="is not held"):
        start(serve({**HELD, "spec": {}}).client, "drop-ray", "drop-ray-run")


def test_the_servers_reason_is_passed_on(serve):
    api = serve(HELD)
    api.refusal = 403
    with pytest.raises(KubernetesError, match=rf"^GET {FOLDER}/drop-ray: 403 rayjobs.ray.io is forbidden$"):
        start(api.client, "drop-ray", "drop-ray-run")
    gone = api.client
    api.shutdown()
    api.server_close()
    with pytest.raises(KubernetesError, match="gives no answer .* network policy"):
        start(gone, "drop-ray", "drop-ray-run")


def test_outside_of_a_pod_there_is_no_server(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubernetesError, match="this is no pod"):
        rayjobs_of_this_pod()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(kubernetes, "ACCOUNT", tmp_path)
    with pytest.raises(KubernetesError, match="this is no pod"):
        rayjobs_of_this_pod()
    for name in ("token", "namespace"):
        (tmp_path / name).write_text(f"the-{name}\n")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    found = rayjobs_of_this_pod()
    assert (found.server, found.namespace, found.token) == ("https://[fd00::1]:443", "the-namespace", "the-token")
