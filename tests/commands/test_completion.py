"""`drop-ray completion`: what a person gets who presses the tabulator in a shell."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from drop_ray.cli import COMMANDS, main, make_parser
from drop_ray.commands.completion_scripts import SCRIPTS, Command, Option, bash, fish, zsh


@pytest.fixture
def script(tmp_path, capsys):
    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return write


class Shell:
    """A shell in a terminal, as a person has it."""

    def __init__(self, command, folder):
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", PS1="> ", PATH="/usr/bin:/bin", HOME=str(folder))
            os.execvp(command[0], command)
        self.pid = pid

    def type(self, text, until, seconds=30):
        """What is on the screen after the keys, once it has `until`."""
        os.write(self.terminal, text.encode())
        shown, end = "", time.monotonic() + seconds
        while until not in shown:
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"{until!r} did not come: {shown!r}"
            shown += os.read(self.terminal, 4096).decode(errors="replace")
        return shown

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("comple", "completion "),
        ("completion f", "completion fish "),
        ("run --dr", "run --dry-run "),
        ("-v run --re", "-v run --reuse "),
        ("init --example llama3_7", "init --example llama3_70b "),
        ("submit --stage quan", "submit --stage quantize "),
        ("run my.yaml --set execution.num_w", "run my.yaml --set execution.num_workers="),
        ("run my", "run my.yaml "),
        ("init --output my", "init --output my.yaml "),
    ],
)
def test_bash_completes_what_is_typed(script, tmp_path, typed, becomes):
    (tmp_path / "my.yaml").touch()
    path = script("bash")
    shell = Shell(["bash", "--norc", "-i"], tmp_path)
    try:
        shell.type(f"source {path.name}; echo read''y\n", "ready")
        # Ctrl-A and `echo` make the completed line harmless; what is printed is what it became.
        shown = shell.type(f"drop-ray {typed}\t\x01echo '<'\x05'>'\n", ">\r\n")
    finally:
        shell.close()
    printed = shown.rsplit("\n", 2)[-2]
    assert printed.strip() == f"<drop-ray {becomes}>"


def test_scripts_know_every_command_and_option(script):
    commands = make_parser().commands
    assert len(commands) > len(COMMANDS)
    for shell in SCRIPTS:
        text = script(shell).read_text()
        for name, parser in commands.items():
            assert re.search(rf"\b{name}\b", text)
            for action in parser.actions:
                for option in action.option_strings:
                    written = f"-l {option[2:]}" if shell == "fish" and option.startswith("--") else option
                    assert written in text


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_reads_its_script(script, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    subprocess.run([shell, "-n", script(shell)], check=True)


@pytest.mark.parametrize("write", [bash, zsh, fish])
def test_texts_with_quotes_and_colons_stay_texts(write, tmp_path):
    name = write.__name__
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    option = Option(("-x", "--one's"), 'it\'s `a: b` $(touch hacked) of "c"', True, ("a'b", "$(touch hacked)"))
    path = tmp_path / "script"
    path.write_text(write([Command("do", option.text, (option,), ("x'y",))], [option]))
    subprocess.run([name, "-n", path], check=True)
    assert not (tmp_path / "hacked").exists()
