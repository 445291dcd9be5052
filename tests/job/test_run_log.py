"""The log of a run in its folder: it grows with the run, has what ended it, and no credentials."""

import logging
import re

import pytest

from drop_ray.errors import WorkerFailedError
from drop_ray.job import run_log
from drop_ray.job.run_log import RunLog, logs_of
from drop_ray.store import Store, open_store
from drop_ray.store.local_files import LocalFiles
from drop_ray.text.file_only import LOG_FILE_ONLY

logger = logging.getLogger("drop_ray.test")


class Far(LocalFiles):
    """Files that programs cannot open, as on S3; it counts what is written."""

    writes = 0

    def local_path(self, path):
        return None

    def replace(self, path, data):
        self.writes += 1
        super().replace(path, data)


@pytest.fixture(autouse=True)
def at_info(caplog):
    with caplog.at_level(logging.INFO, "drop_ray"):
        yield


@pytest.fixture(params=["local", "far"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "INTERVAL_S", 0.01)
    return open_store(str(tmp_path)) if request.param == "local" else Store(Far(tmp_path))


def texts(store):
    return [store.read_file(f"runs/a/logs/{name}").decode() for name in store.list("runs/a/logs")]


def test_what_is_said_before_and_after_the_run_is_known_to_start_is_kept_once(store):
    with RunLog(store, "runs/a", {}) as log:
        logger.info("before")
        assert texts(store) == []
        log.begin()
        logger.warning("after")
        LOG_FILE_ONLY.info("a line that a terminal has no room for")
    logger.info("of another run")
    (text,) = texts(store)
    lines = text.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [IW] ", line) for line in lines)
    assert [line[22:] for line in lines if "process" not in line] == [
        "before",
        "after",
        "a line that a terminal has no room for",
    ]
    assert list(logs_of(store, "runs/a")) == [log.location]


def test_a_run_that_is_refused_leaves_nothing(store):
    with pytest.raises(ValueError, match="refused"), RunLog(store, "runs/a", {}):
        raise ValueError("refused")
    assert texts(store) == []


@pytest.mark.parametrize("kind", [WorkerFailedError, KeyError])
def test_what_ended_the_run_is_in_it_and_the_error_says_where_it_is(store, kind):
    log = RunLog(store, "runs/a", {})

    def work():
        log.begin()
        raise kind("unit 7 failed\n  its last lines")

    with pytest.raises(kind) as raised, log:
        work()
    (text,) = texts(store)
    known = kind is WorkerFailedError
    assert "its last lines" in text
    assert ("Traceback" in text) != known
    assert raised.value.__notes__ == [f"log: {log.location}"]


def test_credentials_are_masked(store, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted-1")
    with RunLog(store, "runs/a", {"client_kwargs": {"aws_session_token": "planted-2"}, "key": "short"}) as log:
        log.begin()
        logger.info("hf_planted-1 and planted-2, which is not short")
    assert "*** and ***, which is not short" in texts(store)[0]


def test_a_long_log_on_s3_has_parts_and_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "PART_BYTES", 1000)
    monkeypatch.setattr(run_log, "MAX_BYTES", 3500)
    monkeypatch.setattr(run_log, "INTERVAL_S", 1000)
    store = Store(Far(tmp_path))
    with RunLog(store, "runs/a", {}) as log:
        log.begin()
        for number in range(100):
            logger.info("line %d %s", number, "x" * 80)
            log._upload()
    assert [len(text) >= 1000 for text in texts(store)] == [True, True, True, False]
    assert 3300 < sum(map(len, texts(store))) <= 3500
    joined = "".join(texts(store))
    assert [int(number) for number in re.findall(r"line (\d+) ", joined)] == [*range(joined.count("line "))]
    assert [location.rpartition("/")[2].partition(".")[2] for location in logs_of(store, "runs/a")] == [
        "log",
        "part002.log",
        "part003.log",
        "part004.log",
    ]


def test_a_store_that_fails_does_not_end_the_run(tmp_path):
    class Failing(Far):
        def replace(self, path, data):
            raise OSError("out of reach")

    with RunLog(Store(Failing(tmp_path)), "runs/a", {}) as log:
        log.begin()
        logger.info("a line")
    (tmp_path / "runs").write_text("a file where a folder should be")
    with RunLog(open_store(str(tmp_path)), "runs/a", {}) as log:
        log.begin()
        logger.info("a line")


def test_a_local_log_has_an_end_too(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "MAX_BYTES", 1000)
    store = open_store(str(tmp_path))
    with RunLog(store, "runs/a", {}) as log:
        log.begin()
        for number in range(100):
            logger.info("line %d", number)
    (text,) = texts(store)
    assert 900 < len(text) <= 1000
