"""Markdown tables that also line up in a terminal, and text that cannot break them."""

from collections.abc import Sequence
from typing import Literal

from drop_ray.report.text_table import TextTable

Align = Literal["left", "right"]
LEFT: tuple[Align, ...] = ("left",)
RIGHT: tuple[Align, ...] = ("right",)


def escaped(text: str) -> str:
    """Text that neither ends a table cell nor starts HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], aligns: Sequence[Align]) -> str:
    """A Markdown table whose columns line up in a fixed-width font; cells are escaped here."""
    cells = [[escaped(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(headings))]

    def spelled(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if align == "right" else cell.ljust(width)
            for cell, width, align in zip(row, widths, aligns, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rules = (
        "-" * (width - 1) + ":" if align == "right" else "-" * width
        for width, align in zip(widths, aligns, strict=True)
    )
    return "\n".join([spelled(cells[0]), f"| {' | '.join(rules)} |", *(spelled(row) for row in cells[1:])])


def text_table(content: TextTable) -> str:
    """A table whose cells' pieces stand beside each other."""
    rows = [[" ".join(cell) for cell in row] for row in content.rows]
    aligns = (*LEFT * content.names, *RIGHT * (len(content.headings) - content.names))
    return table(content.headings, rows, aligns)
