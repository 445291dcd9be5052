"""Drivers of one run see each other while they live, and nobody sees those that are gone."""

import os
import time

import pytest

from drop_ray.job.drivers import DRIVERS, Presence, signs_of_life
from drop_ray.job.heartbeat import STALE_S, Driver, Heartbeat
from drop_ray.store import open_store

RUN = "runs/run"


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def leave(store, driver, age_s=0.0):
    """The file of a driver that wrote last so long ago."""
    heartbeat = Heartbeat(driver, time.time() - age_s, "score")
    store.write_file(f"{RUN}/{DRIVERS}/{driver.host}-{driver.pid}.json", heartbeat.to_json())


def test_a_second_driver_says_who_the_first_is_and_the_first_learns_of_it(store, caplog, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    leave(store, Driver("other-host", 41), age_s=30)
    with Presence(store, RUN) as presence:
        assert presence.came_later
        assert [other.driver for other in presence.others] == [Driver("other-host", 41)]
        assert "another driver works on this run: process 41 on other-host, last sign of life 30.0 s ago" in caplog.text
        leave(store, Driver("third", 42))
        presence.write(Heartbeat(presence.driver, time.time(), "score"))
        assert [other.driver.host for other in presence.others] == ["other-host", "third"]
    assert caplog.text.count("another driver works on this run") == 2


def test_a_driver_is_seen_while_it_lives_and_gone_afterwards_also_if_it_failed(store, caplog):
    def work():
        with Presence(store, RUN) as presence:
            ((_, seen),) = signs_of_life(store, RUN)
            assert seen.driver == Driver(presence.driver.host, os.getpid())
            assert not presence.came_later
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(signs_of_life(store, RUN)) == []
    assert caplog.text == ""


def test_drivers_that_were_killed_are_not_taken_for_others(store, caplog):
    with Presence(store, "runs/else") as presence:
        host = presence.driver.host
    leave(store, Driver("other-host", 41), age_s=STALE_S + 10)
    leave(store, Driver(host, 2**22 + 1))  # no process can have that number
    store.write_file(f"{RUN}/{DRIVERS}/garbage.json", b"\x00")
    with Presence(store, RUN) as presence:
        assert not presence.came_later
        assert len(list(signs_of_life(store, RUN))) == 1
    assert "garbage.json: is not JSON" in caplog.text
    assert "another driver" not in caplog.text
