"""`drop-ray submit` against a cluster that is pretended: what it sends, prints and returns, and lost connections."""

import http.server
import json
import threading
from types import SimpleNamespace

import pytest
import ray
from ray.job_submission import JobStatus

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.runtime import job_client, submit
from drop_ray.runtime.submit import JobLostError, exit_code, follow

SECRET = "a-value-nobody-may-see"


def details(status, code=None, message=""):
    return SimpleNamespace(submission_id="job", status=JobStatus(status), driver_exit_code=code, message=message)


class FakeClient:
    """Answers in the given order: each a log so far with a state, or an error. The last state stays."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.submitted, self.stopped = [], []

    def get_job_info(self, _):
        answer = self.answers[0]
        if isinstance(answer, Exception):
            raise self.answers.pop(0)
        return answer[1]

    def get_job_logs(self, _):
        log = self.answers.pop(0)[0] if len(self.answers) > 1 else self.answers[0][0]
        if isinstance(log, BaseException):
            raise log
        return log

    def submit_job(self, **job):
        self.submitted.append(job)
        return "job"

    def stop_job(self, job):
        self.stopped.append(job)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(submit, "POLL_S", 0.0)
    monkeypatch.setattr(submit, "LOG_CHARACTERS_PER_S", 1e12)


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A working directory with a config, and a secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOP_SECRET", SECRET)
    (tmp_path / "text.txt").write_text("some text")
    (tmp_path / "run.yaml").write_text(
        "{model: {path: organisation/model}, calibration: {source: text.txt}, store: 's3://bucket/prefix'}"
    )
    return tmp_path


@pytest.fixture
def client(monkeypatch):
    client = FakeClient(("done\n", details("SUCCEEDED", 0)))
    monkeypatch.setattr(submit, "connect", lambda address: client)
    return client


def test_every_line_is_written_once_whatever_happens_to_the_connection():
    running = details("RUNNING")
    client = FakeClient(
        ("", details("PENDING")),
        ("one\n", running),
        ConnectionError("reset by peer"),
        ("one\ntw", running),
        (RuntimeError("Request failed with status code 502: bad gateway."), running),
        (OSError("timed out"), running),
        ("one\ntwo\n", running),
        ("one\ntwo\n", running),
        ("one\ntwo\nthree\n", details("SUCCEEDED", 0)),
    )
    written = []
    assert follow(client, "job", written.append).status == JobStatus.SUCCEEDED
    assert written == ["one\n", "tw", "o\n", "three\n"]


def test_a_job_that_the_cluster_forgot_is_not_waited_for():
    client = FakeClient(("", details("RUNNING")), RuntimeError("Request failed with status code 404: no such job."))
    with pytest.raises(JobLostError, match="its head was started anew"):
        follow(client, "job", print)


def test_a_cluster_that_never_answers_is_given_up(monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(submit.time, "monotonic", lambda: next(clock))
    client = FakeClient(*[ConnectionError("refused")] * 100)
    with pytest.raises(JobLostError, match="gave no answer for 300 s"):
        follow(client, "job", print)
    assert len(client.answers) > 90


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (details("SUCCEEDED", 0), 0),
        (details("FAILED", 1), 1),
        (details("FAILED", 2), 2),
        (details("FAILED", -9), 137),
        (details("STOPPED"), 143),
        (details("FAILED", None, "the runtime environment could not be made"), 1),
    ],
)
def test_the_exit_code_is_the_drivers_own_and_stopped_is_no_success(info, code):
    written = []
    assert exit_code(info, written.append) == code
    assert str(info.status) in written[0]
    assert ("could not be made" in "".join(written)) == bool(info.message)


def test_a_job_gets_secrets_by_name_and_nobody_sees_them(run_folder, client, capsys):
    arguments = ["submit", "run.yaml", "--address", "http://head:8265", "--env", "TOP_SECRET"]
    assert main([*arguments, "--set", "calibration.num_samples=8", "--stage", "plan"]) == 0
    (job,) = client.submitted
    assert job["runtime_env"]["env_vars"] == {"TOP_SECRET": SECRET}
    assert job["entrypoint"] == "python -m drop_ray plan run.yaml --set calibration.num_samples=8"
    output = capsys.readouterr()
    assert "done\n" in output.out
    assert SECRET not in output.out + output.err
    assert SECRET not in str({**job, "runtime_env": {**job["runtime_env"], "env_vars": None}})


def test_values_with_spaces_and_quotes_reach_the_job_as_they_are(run_folder, client):
    import shlex

    value = "plans=[{strategy: attention, drop: [2, 4]}]"
    assert main(["submit", "run.yaml", "--address", "http://head:8265", "--set", value]) == 0
    assert shlex.split(client.submitted[0]["entrypoint"])[-1] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", f"OTHER={SECRET}"], "--env OTHER: give only the name"),
        (["--env", "NOT_THERE"], "--env NOT_THERE: there is no such variable"),
        (["--set", "store=here"], "store: here would lie in the job's copy"),
        (["--set", "calibration.source=missing.txt"], "calibration.source: missing.txt is not among the files"),
        (["--set", "modle.path=x"], "modle: unknown key"),
        (["--set", f"execution.store_options.secret={SECRET}"], "execution.store_options.secret: everyone on"),
        (
            ["--set", f"execution.store_options={{client_kwargs: {{aws_session_token: {SECRET}}}}}"],
            "execution.store_options.client_kwargs.aws_session_token: everyone on the cluster could read it; take it",
        ),
        (
            ["--set", f"execution.store_options={{key: [{SECRET}"],
            "--set execution.store_options: the value is not YAML",
        ),
    ],
)
def test_bad_input_is_refused_before_the_cluster_is_asked(run_folder, client, capsys, arguments, message):
    assert main(["submit", "run.yaml", "--address", "http://head:8265", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert SECRET not in errors
    assert client.submitted == []


def test_without_waiting_the_command_leaves_when_the_job_is_taken(run_folder, client, capsys):
    client.answers = []
    assert main(["submit", "run.yaml", "--address", "http://head:8265", "--no-wait"]) == 0
    assert "ray job logs --follow --address http://head:8265 job" in capsys.readouterr().out


def test_an_interrupted_command_tells_the_job_to_stop(run_folder, client, capsys):
    client.answers = [(KeyboardInterrupt(), details("RUNNING"))]
    assert main(["submit", "run.yaml", "--address", "http://head:8265"]) == 130
    assert client.stopped == ["job"]
    assert "telling job to stop" in capsys.readouterr().err


def test_a_cluster_that_refuses_the_job_is_no_traceback(run_folder, client, capsys, monkeypatch):
    def refuse(**job):
        raise RuntimeError("Request failed with status code 500: no space left.\nTraceback ...")

    monkeypatch.setattr(client, "submit_job", refuse)
    assert main(["submit", "run.yaml", "--address", "http://head:8265"]) == 1
    assert "http://head:8265 did not take the job: Request failed with status code 500" in capsys.readouterr().err


@pytest.fixture
def server():
    """An HTTP server; `server.answer` is what it says to everything: (status, JSON)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = server.answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_cluster_of_this_ray_is_connected_to_whatever_the_environment_names(server, monkeypatch):
    server.answer = 200, {"ray_version": ray.__version__}
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert job_client.connect(server.url).get_address() == server.url
    assert job_client.os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"ray_version": "2.9.3"}), "runs Ray 2.9.3, drop_ray here is for"),
        ((401, {}), "wants another token .* set RAY_AUTH_MODE=token"),
        ((403, {}), "wants another token"),
        ((404, {}), "does not answer as a Ray cluster does"),
        ((200, {"something": "else"}), "does not answer as a Ray cluster does"),
    ],
)
def test_another_ray_another_token_and_another_server_are_told_apart(server, answer, message):
    server.answer = answer
    with pytest.raises(UserError, match=message):
        job_client.connect(server.url)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:8265", "auto"])
def test_an_address_where_nothing_answers_is_named(address):
    with pytest.raises(UserError, match=f"--address: {address}"):
        job_client.connect(address)
