"""The sign of life of a driver as `drop-ray status` shows it: who works on what, who is slow, who is gone."""

import json

import pytest

from drop_ray.errors import UserError
from drop_ray.job.heartbeat import STALE_S, BusyWorker, Driver, Heartbeat


def heartbeat(*elapsed, done=4, median_s=10.0, late=(), killed=(), fraction=None, left_s=None):
    busy = tuple(
        BusyWorker(f"unit {n}", "10.0.0.1", 100 + n, 1000.0 - seconds, n in late, fraction)
        for n, seconds in enumerate(elapsed)
    )
    return Heartbeat(Driver("head", 7), 1000.0, "evaluate", 3, done, 9, median_s, busy, killed, left_s)


def test_busy_workers_are_listed_with_the_longest_first():
    lines = list(heartbeat(3, 12).lines(1000.0))
    assert lines == [
        "evaluate: 4 of 9 units done, 3 workers ready (driver: process 7 on head)",
        "  unit 1: for 12.0 s on worker 101 of 10.0.0.1",
        "  unit 0: for 3.0 s on worker 100 of 10.0.0.1",
    ]


def test_a_unit_that_takes_three_times_the_median_is_a_straggler():
    assert "STRAGGLER" not in list(heartbeat(30).lines(1000.0))[1]
    assert list(heartbeat(30).lines(1001.0))[1].endswith("STRAGGLER (the median is 10.0 s)")


def test_nobody_is_a_straggler_before_there_is_a_median():
    assert "STRAGGLER" not in list(heartbeat(5000, done=2).lines(1000.0))[1]


def test_a_unit_beyond_its_timeout_and_a_worker_that_was_killed_are_shown():
    lines = list(heartbeat(5000, late={0}, killed=("unit 9: worker 3 was killed",)).lines(1000.0))
    assert lines[1] == "  unit 9: worker 3 was killed"
    assert lines[2].endswith("LATE (no answer within execution.unit_timeout: another worker is asked too)")


def test_an_old_sign_of_life_means_that_its_driver_is_gone():
    assert len(list(heartbeat(3).lines(1000.0 + STALE_S))) == 2
    (line,) = heartbeat(3).lines(1000.0 + 2 * STALE_S)
    assert line == "the driver, process 7 on head, is gone: its last sign of life is 4 min 0 s old"


def test_how_far_a_unit_is_and_what_is_left_are_shown_and_what_has_passed_since_is_not_left():
    stage, unit = heartbeat(12, fraction=0.25, left_s=(300.0, 900.0)).lines(1000.0)
    assert stage.startswith("evaluate: 4 of 9 units done, 5 to 15 min left, 3 workers ready")
    assert unit == "  unit 0: 25% done, for 12.0 s on worker 100 of 10.0.0.1"
    assert "2 to 15 min left" in next(heartbeat(left_s=(240.0, 960.0)).lines(1100.0))
    assert "at least 2 min left" in next(heartbeat(left_s=(240.0, None)).lines(1100.0))
    assert heartbeat(left_s=(10.0, 20.0)).left(1100.0) == (0.0, 0.0)


@pytest.mark.parametrize("more", [{}, {"fraction": 0.5, "left_s": (1.0, 2.5)}, {"left_s": (1.0, None)}])
def test_what_was_written_is_read(more):
    written = heartbeat(3, 12, late={1}, killed=("a",), **more)
    assert Heartbeat.from_json(written.to_json(), "here") == written


@pytest.mark.parametrize(
    "fields",
    [
        {"busy": None},
        {"busy": [7]},
        {"busy": [{}]},
        {"busy": [{"unit": "a", "node": "b", "pid": 1, "since": 1.0, "late": False, "fraction": "half"}]},
        {"left_s": [1.0]},
        {"left_s": 7},
        {"driver": "head"},
        {"driver": {"host": "head", "pid": "7"}},
        {"time": "now"},
        {"done": 1.5},
        {"killed": [1]},
        {"stage": None},
    ],
)
def test_other_values_are_refused(fields):
    values = {**json.loads(heartbeat(3).to_json()), **fields}
    with pytest.raises(UserError, match="^here: is not a driver's sign of life: "):
        Heartbeat.from_json(json.dumps(values).encode(), "here")


@pytest.mark.parametrize("data", [b"", b"[]", b"\x00\xff", b"[" * 5000, b'{"time": NaN}', b"{}"])
def test_what_is_no_heartbeat_is_refused(data):
    with pytest.raises(UserError, match="^here: "):
        Heartbeat.from_json(data, "here")
