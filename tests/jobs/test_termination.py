"""SIGTERM: an end like that of Ctrl-C, with an exit code of its own, also where Ray has set a handler."""

import os
import signal
import sys

import pytest

from drop_ray.cli import main
from drop_ray.runtime.termination import sigterm_handler_kept, terminable

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def handler():
    """The handler before each test, which must be there again after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_interrupts_and_is_told_from_ctrl_c():
    with terminable() as termination:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert termination.received
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_that_ray_sets_meanwhile_does_not_stay():
    with terminable():
        ours = signal.getsignal(signal.SIGTERM)
        with sigterm_handler_kept():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        assert signal.getsignal(signal.SIGTERM) == ours


def test_sigterm_that_rays_own_handler_takes_ends_alike():
    def connect():
        with sigterm_handler_kept():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
            os.kill(os.getpid(), signal.SIGTERM)

    with terminable() as termination:
        with pytest.raises(KeyboardInterrupt):
            connect()
        assert termination.received


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_the_command_says_how_to_go_on(monkeypatch, capsys, number, code, word):
    def work(options):
        os.kill(os.getpid(), number)
        raise AssertionError("not reached")

    monkeypatch.setattr("drop_ray.commands.status.run", work)
    assert main(["status", "run.yaml"]) == code
    assert capsys.readouterr().err == f"drop-ray: {word}; run the same command again to go on\n"
