"""Every command of the pages can be typed, and is run by a test (test_commands_run.py) or declared, with the reason."""

import ast
import importlib
import json
import re
import shlex
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from commands_not_run import NOT_RUN
from page_commands import LANGUAGES, PAGES, ROOT, Shown, blocks, commands, reason_not_run, shown

from drop_ray.cli import make_parser

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_every_block_is_for_the_shell_or_says_its_language(page):
    other = [f"line {block.line}: {block.language or 'none'}" for block in blocks(page)]
    assert [place for place in other if place.split(": ")[1] not in LANGUAGES] == []


@every_page
def test_every_command_of_drop_ray_can_be_typed(page):
    for command in commands(page):
        if command.text.startswith("drop-ray "):
            try:
                make_parser().parse_args(shlex.split(command.words)[1:])
            except SystemExit:
                pytest.fail(f"{command.place}: {command.text}")


@every_page
def test_every_other_command_is_declared(page):
    """drop-ray's own are run unless they are declared; of others none is run."""
    others = [command for command in commands(page) if not command.text.startswith("drop-ray ")]
    assert [f"{command.place}: {command.text}" for command in others if not reason_not_run(command)] == []


def test_every_declared_command_stands_in_a_page():
    texts = [command.text for page in PAGES for command in shown(page)]
    assert [pattern for pattern in NOT_RUN if not any(fnmatchcase(text, pattern) for text in texts)] == []


@every_page
def test_what_python_blocks_import_and_call_of_drop_ray_is_there(page):
    for block in shown(page):
        if block.language == "python":
            for name in dotted_names(ast.parse(block.text, block.place)):
                assert is_there(name), f"{block.place}: {name}"


@every_page
def test_other_examples_are_valid(page):
    load = {"json": json.loads, "toml": tomllib.loads}
    for block in blocks(page):
        if block.language in load:
            load[block.language](block.text)


def dotted_names(tree):
    """What is imported, and what of drop_ray is used by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if not own(node.module))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if not own(alias.name))
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"drop_ray(\.\w+)+", name := ast.unparse(node)):
            yield name


def own(module):
    """Of the package that extending.md makes, which tests/test_extensions.py installs."""
    return module.startswith("drop_ray_toy")


def is_there(name):
    module, _, attribute = name.rpartition(".")
    try:
        return not module or hasattr(importlib.import_module(module), attribute) or importlib.import_module(name)
    except ModuleNotFoundError:
        return False


def test_a_command_is_read_as_a_reader_would_type_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n    .venv/bin/drop-ray run \\\n        my.yaml   # all of it\n\n    # then\n    ls > list\n\n"
        "```text\n    no command\n```\n\n    $ drop-ray status my.yaml\n    output\n\n"
        "```python\nx = 1\n```\n\n```sh\ndrop-ray gc my.yaml\n```\n"
    )
    found = [(one.line, one.language, one.text) for one in shown(page)]
    assert found == [
        (3, "sh", "drop-ray run my.yaml"),
        (7, "sh", "ls > list"),
        (13, "sh", "drop-ray status my.yaml"),
        (17, "python", "x = 1\n"),
        (21, "sh", "drop-ray gc my.yaml"),
    ]
    assert [one.output for one in shown(page)][2] == ("output",)
    assert reason_not_run(Shown(Path(page), 1, "sh", "kubectl apply -k manifests/overlays/gpu"))
    assert reason_not_run(Shown(Path(page), 1, "sh", "terraform apply")) is None
