"""A command in a terminal of a given width, and what the terminal shows in the end, as a picture."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

# What programs write to a terminal beside text: colours, and how rich draws a line of progress anew.
CONTROL = re.compile(r"\x1b\[(\d*(?:;\d+)*)([A-Za-z])|\x1b\[\?\d+[hl]|\r|\n")
FONT = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)


def record(command: list[str], folder: Path, columns: int) -> str:
    """All that a command writes in a terminal; fails if the command does."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    kind = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "CI")}
    process = subprocess.Popen(
        command, cwd=folder, env={**inherited, **kind}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()
    try:
        while part := os.read(ours, 1 << 16):
            written += part
    except OSError:  # so Linux says that the terminal's last writer is gone
        pass
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{command} failed:\n{written.decode()}")
    return written.decode()


def last_screen(written: str) -> list[str]:
    """The lines that stay, with their colours: lines of progress are drawn one over the other."""
    lines, row, place = [""], 0, 0
    for match in [*CONTROL.finditer(written), None]:
        lines[row] += written[place : match.start() if match else None]
        if match is None:
            break
        place = match.end()
        if match[0] == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif match[2] == "A":
            row -= int(match[1] or 1)
        elif match[2] == "K":
            lines[row] = ""
        elif match[2] == "m":
            lines[row] += match[0]
    return lines


def picture(lines: list[str], columns: int, title: str) -> str:
    """An SVG that asks the network for no font; of lines that are too long the beginning."""
    console = Console(record=True, width=columns, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis")
    drawn = FONT.sub("", console.export_svg(title=title, theme=MONOKAI))
    return drawn.replace("Fira Code, monospace", "monospace")
