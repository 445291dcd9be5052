"""Tables for the terminal. They fit its width, long cells go on in the next line; in a pipe each row is one line."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def words(heading: str = "") -> Column:
    """A column of text, which becomes narrower before other columns do."""
    return Column(Text(heading), overflow="fold")


def names(heading: str = "", min_width: int | None = None) -> Column:
    """A column whose cells stay in one line as long as there is room."""
    return Column(Text(heading), no_wrap=True, overflow="fold", min_width=min_width)


def numbers(heading: str = "", min_width: int | None = None) -> Column:
    """A column whose cells are aligned on the right."""
    return Column(Text(heading), justify="right", no_wrap=True, overflow="fold", min_width=min_width)


def table_lines(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> list[str]:
    """A line of headings, if a column has one, then the rows. The columns are rich's and serve one table only."""
    has_headings = any(str(column.header) for column in columns)
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=has_headings)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
