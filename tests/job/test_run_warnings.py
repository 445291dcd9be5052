"""What the log warns of during a run: kept by the run, once each, and shown by its report."""

import logging

import pytest
from local_run import run_stages, run_state
from tiny_run import config_of, write_inputs

from drop_ray.job.opening import open_job
from drop_ray.job.run_files import recorded_files
from drop_ray.job.run_warnings import MOST, WARNINGS, RunWarnings
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.stages.report import collect

logger = logging.getLogger("drop_ray.somewhere")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def job(inputs, tmp_path):
    return open_job(config_of(inputs, tmp_path / "store", refit=[]))


def test_warnings_are_kept_once_each_while_the_run_is_under_way():
    logger.warning("before")
    with RunWarnings() as warned:
        for text in ("first", "second", "first"):
            logger.warning("the %s", text)
        logger.info("no warning")
        logging.getLogger("elsewhere").warning("of a library")
    logger.warning("after")
    assert [*warned.told] == ["the first", "the second"]


def test_no_more_are_kept_than_somebody_reads():
    with RunWarnings() as warned:
        for number in range(2 * MOST):
            logger.warning("%d", number)
    assert [*warned.told] == [str(number) for number in range(MOST)]


def test_the_next_start_has_those_of_earlier_ones_too(job):
    first = run_state(job)
    with first.warned:
        logger.warning("first <b>start</b>")
    first.finish()
    assert WARNINGS in recorded_files(job.store, job.run_folder)
    second = run_state(job)
    with second.warned:
        logger.warning("second start")
        logger.warning("first <b>start</b>")
    assert second.warnings() == ["first <b>start</b>", "second start"]
    second.finish()
    assert run_state(job).warnings() == ["first <b>start</b>", "second start"]


def test_a_run_without_warnings_has_no_file(job):
    run_state(job).finish()
    assert not job.store.exists(f"{job.run_folder}/{WARNINGS}")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[\xff]"])
def test_a_damaged_file_is_a_warning_and_written_anew(job, content):
    job.store.write_file(f"{job.run_folder}/{WARNINGS}", content)
    state = run_state(job)
    with state.warned:
        (told,) = state.warnings() or [*state.warned.told]
    assert "it is written anew" in told
    state.finish()
    assert run_state(job).warnings() == [told]


def test_the_report_shows_them(job):
    with RunWarnings():
        state = run_stages(job, "plan")
    with state.warned:
        logger.warning("a text is <b>judged</b> on, too")
    found = collect(state, [])
    assert "a text is &lt;b&gt;judged&lt;/b&gt; on, too" in render_html(found)
    assert "1 warning" in render_markdown(found)
