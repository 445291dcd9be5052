"""A driver has its own job stopped; tests/jobs does it on a cluster."""

import time
from types import SimpleNamespace

import pytest

from drop_ray.errors import UserError
from drop_ray.runtime import rayjob


@pytest.fixture
def waited(monkeypatch):
    """Seconds that were waited for the end."""
    found = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(rayjob, "own_job", lambda: "drop-ray-x")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return found


def test_the_job_is_stopped_at_the_head_and_its_end_waited_for(monkeypatch, waited, capsys):
    asked = []

    def connect(address):
        return SimpleNamespace(stop_job=lambda job: asked.append((address, job)))

    monkeypatch.setattr(rayjob, "connect", connect)
    rayjob.stop_own_job()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    rayjob.stop_own_job()
    assert asked == [("http://127.0.0.1:8265", "drop-ray-x"), ("http://elsewhere:1", "drop-ray-x")]
    assert waited == [rayjob.STOPPED_S] * 2
    assert "stopping drop-ray-x: with this input another attempt would end the same" in capsys.readouterr().err


@pytest.mark.parametrize("error", [UserError("--address: no answer"), RuntimeError("500"), ConnectionError("gone")])
def test_one_that_cannot_be_stopped_is_said_and_ends_by_itself(monkeypatch, waited, capsys, error):
    def connect(_):
        raise error

    monkeypatch.setattr(rayjob, "connect", connect)
    rayjob.stop_own_job()
    assert waited == []
    assert f"drop-ray-x could not be stopped, and may be tried again: {error}" in capsys.readouterr().err


def test_a_process_that_is_no_job_stops_nothing(monkeypatch, waited):
    monkeypatch.setattr(rayjob, "own_job", lambda: None)
    monkeypatch.setattr(rayjob, "connect", lambda _: pytest.fail("it was asked"))
    rayjob.stop_own_job()
    assert waited == []
