"""What the pages tell a reader to type: the commands and the Python of their code blocks, in order.

A block that is indented by four spaces, or fenced as `sh`, is for the shell: each of its lines is a command, or, where
it has prompts (`$ `), what follows one; the rest is output. Anything else is fenced with its language, so that nothing
escapes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from commands_not_run import NOT_RUN

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "manifests" / "README.md"])
SHELL = "sh"
LANGUAGES = {SHELL, "json", "python", "text", "toml", "yaml"}
FENCE = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)(?:\n*^ {4}.*\n)*", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    """Of the page, from 1 on, at which the text begins."""


@dataclass(frozen=True)
class Shown:
    """A command, or a block of Python, of a page."""

    page: Path
    line: int
    language: str
    text: str
    """A command without its comment, in one line."""
    output: tuple[str, ...] = ()
    """The lines that are shown below it; none where some are left out (`...`)."""

    @property
    def words(self) -> str:
        """A command without where its output goes."""
        return self.text.partition(" > ")[0]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text()
    fenced = [(match[1], match[2], match.start(2)) for match in FENCE.finditer(text)]
    outside = FENCE.sub(lambda match: "-\n" * match[0].count("\n"), text)
    found = [Block(language, body, text.count("\n", 0, start) + 1) for language, body, start in fenced]
    for match in INDENTED.finditer(outside):
        if match[0].strip():
            found.append(Block(SHELL, match[0], outside.count("\n", 0, match.start()) + 1))
    return sorted(found, key=lambda block: block.line)


def shown(page: Path) -> Iterator[Shown]:
    """The commands and the Python of a page, in order."""
    for block in blocks(page):
        if block.language == "python":
            yield Shown(page, block.line, "python", block.text)
        elif block.language == SHELL:
            for line, text, output in _commands(block):
                yield Shown(page, line, SHELL, text, () if any("..." in one for one in output) else output)


def commands(page: Path) -> list[Shown]:
    return [one for one in shown(page) if one.language == SHELL]


def reason_not_run(command: Shown) -> str | None:
    """None: a test runs it."""
    return next((reason for pattern, reason in NOT_RUN.items() if fnmatchcase(command.text, pattern)), None)


def _commands(block: Block) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, command and output of each."""
    lines = [line.strip() for line in block.text.splitlines()]
    has_prompts = any(line.startswith("$ ") for line in lines)
    number = 0
    while number < len(lines):
        first, text = number, lines[number]
        while text.endswith("\\"):
            number += 1
            text = text[:-1].rstrip() + " " + lines[number]
        number += 1
        output = []
        while has_prompts and number < len(lines) and not lines[number].startswith("$ "):
            output.append(lines[number])
            number += 1
        text = re.split(r"(?:^|\s+)#", text)[0]
        if text := text.removeprefix("$ ").removeprefix(".venv/bin/"):
            yield block.line + first, text, tuple(output)
