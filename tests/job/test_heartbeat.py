"""The sign of life of a driver as `drop-ray status` shows it: who works on what, who is slow, who is gone."""

from drop_ray.job.heartbeat import STALE_S, BusyWorker, Heartbeat, read_heartbeat
from drop_ray.store import open_store


def heartbeat(*elapsed, done=4, median_s=10.0):
    busy = tuple(BusyWorker(f"unit {n}", "10.0.0.1", 100 + n, 1000.0 - seconds) for n, seconds in enumerate(elapsed))
    return Heartbeat(1000.0, "evaluate", 3, done, 9, median_s, busy)


def test_busy_workers_are_listed_with_the_longest_first():
    lines = list(heartbeat(3, 12).lines(1000.0))
    assert lines == [
        "evaluate: 4 of 9 units done, 3 workers ready",
        "  unit 1: for 12.0 s on worker 101 of 10.0.0.1",
        "  unit 0: for 3.0 s on worker 100 of 10.0.0.1",
    ]


def test_a_unit_that_takes_three_times_the_median_is_a_straggler():
    assert "STRAGGLER" not in list(heartbeat(30).lines(1000.0))[1]
    assert list(heartbeat(30).lines(1001.0))[1].endswith("STRAGGLER (the median is 10.0 s)")


def test_nobody_is_a_straggler_before_there_is_a_median():
    assert "STRAGGLER" not in list(heartbeat(5000, done=2).lines(1000.0))[1]


def test_an_old_sign_of_life_means_that_no_driver_is_running():
    assert len(list(heartbeat(3).lines(1000.0 + STALE_S))) == 2
    (line,) = heartbeat(3).lines(1000.0 + 2 * STALE_S)
    assert line == "no driver is running: the last sign of life is 4 min 0 s old"


def test_what_was_written_is_read_and_a_run_without_any_has_none(tmp_path):
    store = open_store(str(tmp_path))
    assert read_heartbeat(store, "runs/run") is None
    written = heartbeat(3, 12)
    written.write(store, "runs/run")
    assert read_heartbeat(store, "runs/run") == written
