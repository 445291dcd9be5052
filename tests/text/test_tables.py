"""Tables: a line a row where a script reads them, fitted to a terminal without loss where a person does."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from drop_ray.text.console import PLAIN, console_of
from drop_ray.text.tables import names, numbers, table_lines, words

LONG = "a [bold]path[/] " + "/very/long" * 40
ROWS = [("base", "1", ""), (Text("attention-4", "red"), "1234", LONG)]


def columns():
    return names("plan"), numbers("units"), words("path")


def test_elsewhere_a_row_is_one_line_without_colour_markup_or_trailing_space():
    assert table_lines(PLAIN, columns(), ROWS) == [
        "plan         units  path",
        "base             1",
        f"attention-4   1234  {LONG}",
    ]


def test_without_headings_there_is_no_line_for_them():
    assert table_lines(PLAIN, (names(min_width=6), numbers()), [("a", "1"), ("b", "10")]) == [
        "a        1",
        "b       10",
    ]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_terminal_gets_lines_that_fit_and_everything_that_is_said(width):
    lines = table_lines(Console(width=width, color_system=None), columns(), ROWS)
    assert max(map(len, lines)) <= width
    path = "".join(line[20:] for line in lines[2:])
    assert path.replace(" ", "") == LONG.replace(" ", "")


def test_a_file_has_no_width_and_no_colour(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = console_of(io.StringIO())
    assert table_lines(console, columns(), ROWS) == table_lines(PLAIN, columns(), ROWS)


def test_colours_that_are_asked_for_come_without_a_width(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    lines = table_lines(console_of(io.StringIO()), columns(), ROWS)
    assert len(lines) == 3
    assert "\x1b[31mattention-4\x1b[0m" in lines[2]
