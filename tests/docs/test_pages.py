"""The pages say what is so: links lead somewhere, commands can be typed, examples load, files that are named exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from drop_ray.cli import make_parser
from drop_ray.config import parse_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "manifests" / "README.md"])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
MAX_README_BYTES = 9000
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: Path) -> list[str]:
    """Code that is shown: fenced, or indented by four spaces."""
    text = page.read_text()
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)


def shown_commands(page: Path, program: str) -> Iterator[str]:
    """Lines of code blocks that call a program, without comments, and with what a backslash continues."""
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(rf"\s*(?:\$ )?(?:\.venv/bin/)?{program} (.*)", line)
            if match:
                yield re.split(r"\s+#|\s+>", match[1])[0]


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_to_a_file_and_a_heading_of_it(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_page
def test_every_command_that_is_shown_can_be_typed(page):
    for command in shown_commands(page, "drop-ray"):
        try:
            make_parser().parse_args(shlex.split(command))
        except SystemExit:
            pytest.fail(f"drop-ray {command}")


@every_page
def test_commands_in_the_text_exist_with_their_options(page, capsys):
    for code in inline_code(page):
        match = re.match(r"drop-ray ([a-z-]+)(.*)", code)
        if match:
            with pytest.raises(SystemExit) as end:
                make_parser().parse_args([match[1], "--help"])
            assert end.value.code == 0, code
            words = capsys.readouterr().out.replace(",", " ").replace("[", " ").split()
            assert {*re.findall(r"--[a-z-]+", match[2])} <= {*words}, code


@every_page
def test_every_make_target_that_is_named_is_one(page):
    shown = [word for line in shown_commands(page, "make") for word in line.split()]
    named = [code.removeprefix("make ") for code in inline_code(page) if code.startswith("make ")]
    assert {*shown, *named} <= TARGETS


@every_page
def test_files_of_the_repository_that_are_named_exist(page):
    folders = "tests|jobs|cluster|manifests|requirements|drop_ray|docs"
    for path in re.findall(rf"(?:`|\s)((?:{folders})/[\w./-]+)", page.read_text()):
        assert (ROOT / path.rstrip("./")).exists(), path


@every_page
def test_examples_of_a_config_load(page):
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        values = yaml.safe_load(block) or {}
        smallest = {"name": "example", "model": {"path": "model"}, "calibration": {"source": "text.txt"}}
        parse_config({**smallest, **values}, str(page))


def test_the_readme_is_short_and_can_be_read_elsewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= MAX_README_BYTES
    assert not re.search(r"!\[[^]]*\]\((?!https://)", text)  # a package index shows no image of the repository
