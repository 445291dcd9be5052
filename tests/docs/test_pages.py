"""The pages say what is so: links lead somewhere, examples load, files that are named exist."""

import re
from pathlib import Path

import pytest
from page_commands import PAGES, ROOT, commands

from drop_ray.cli import make_parser
from drop_ray.config import parse_config
from drop_ray.reading.yaml_text import parse_yaml

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
MAX_README_BYTES = 9000
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
    lines = [command.text.removeprefix("make ") for command in commands(page) if command.text.startswith("make ")]
    shown = [word for line in lines for word in line.split()]
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
        values = parse_yaml(block, str(page), word_keys=True) or {}
        smallest = {"name": "example", "model": {"path": "model"}, "calibration": {"source": "text.txt"}}
        parse_config({**smallest, **values}, str(page))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= MAX_README_BYTES
