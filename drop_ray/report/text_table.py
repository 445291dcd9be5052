"""Tables as text, the same for HTML and Markdown.

A cell is one or more pieces of text, of which the first is the main one: HTML sets the others small beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.report import formatting

Cell = tuple[str, ...]
NOTHING: Cell = (formatting.NOT_AVAILABLE,)


@dataclass(frozen=True)
class TextTable:
    """The first `names` columns are text, the others numbers."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    names: int
