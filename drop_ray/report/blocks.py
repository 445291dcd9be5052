"""What a report consists of: sections of blocks, in data. html.py and markdown.py each say how a block looks.

A block knows nothing of its topic, and a renderer nothing of topics at all; a section from another package is made of
these too. Texts are plain: renderers escape them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.text.layer_ranges import layer_ranges


class Strong(str):
    """A piece of a paragraph that stands out: a variant's name."""

    __slots__ = ()


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str | Sequence[str]
    """In one piece or more, of which some may be `Strong`."""
    note: bool = False
    """Whether it is small print."""
    of_drawings: bool = False
    """Whether it explains drawings only: without them, as in Markdown, it is left out."""

    @property
    def pieces(self) -> Sequence[str]:
        return (self.text,) if isinstance(self.text, str) else self.text


@dataclass(frozen=True)
class Heading:
    """Of a part of a section."""

    text: str
    """Its words."""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]
    """One each."""


@dataclass(frozen=True)
class Code:
    """Text that keeps its lines."""

    text: str
    """The lines."""
    language: str = ""
    """For highlighting."""


@dataclass(frozen=True)
class Figure:
    """One number that matters."""

    name: str
    """What it is."""
    value: str
    """The number, large."""
    note: str = ""
    """Beside it, small: its error or what it is compared with."""


@dataclass(frozen=True)
class Figures:
    """The numbers that matter, side by side."""

    items: Sequence[Figure]
    """From left to right."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    """The main thing; empty where the drawing is."""
    notes: tuple[str, ...] = ()
    """Beside or below it, small."""
    badge: str = ""
    """Marks it, and in the first column the row: `answer`, `acceptable`."""
    tooltip: str = ""
    """Shown under the pointer."""
    drawing: Markup | None = None
    """Above the text."""


NOTHING = Cell(formatting.NOT_AVAILABLE)


@dataclass(frozen=True)
class Column:
    """One column of a table; the first names its rows."""

    heading: str
    """What it is."""
    kind: Literal["number", "name", "text", "path"] = "number"
    """Numbers stand to the right, the others to the left; text may wrap, paths are in type of one width."""
    note: str = ""
    """Below the heading, small."""


@dataclass(frozen=True)
class Table:
    """Rows of cells."""

    columns: Sequence[Column]
    """From left to right."""
    rows: Sequence[Sequence[Cell]]
    """A cell for each column."""
    title: str = ""
    """Above the table."""
    note: str = ""
    """Below the table, small."""
    look: Literal["", "stacked", "plain"] = ""
    """`stacked`: a cell's notes below it, for many columns; `plain`: names and values, without frame and headings."""


@dataclass(frozen=True)
class HeatRow:
    """One row of a heat strip."""

    label: str
    """What it is of."""
    values: Mapping[int, float]
    """Importance by layer, of one at least; layers that have none stay empty."""
    gap: int = 1
    """Layers that a value is of, from its own on."""
    marked: Collection[int] | None = None
    """Layers to frame; the lowest without."""
    note: str = ""
    """Right of the row; the lowest without."""
    tooltips: Mapping[int, str] = field(default_factory=dict)
    """Shown under the pointer, by layer."""

    @property
    def lowest(self) -> int:
        return min(self.values, key=lambda layer: (self.values[layer], layer))

    @property
    def framed(self) -> Collection[int]:
        return (self.lowest,) if self.marked is None else self.marked

    @property
    def lowest_layers(self) -> str:
        return layer_ranges(range(self.lowest, self.lowest + self.gap))

    @property
    def lowest_text(self) -> str:
        """`4-5 (0.012)`."""
        return f"{self.lowest_layers} ({formatting.score(self.values[self.lowest])})"


@dataclass(frozen=True)
class HeatStrip:
    """Importance over layers: as colours, or as characters."""

    name: str
    """Its id, unique within the page."""
    title: str
    """Above it."""
    num_layers: int
    """Cells of a row."""
    rows: Sequence[HeatRow]
    """At least one."""


@dataclass(frozen=True)
class Chart:
    """A drawing."""

    drawing: Markup
    """From `charts.xy_chart`, whose title and description are read to those who cannot see it."""
    in_text: Sequence["Block"] = ()
    """What Markdown has in its place; nothing where tables have its numbers."""


@dataclass(frozen=True)
class Columns:
    """Blocks side by side, as many as there is room for."""

    blocks: Sequence["Block"]
    """In order."""
    title: str = ""
    """Above them."""
    text: Sequence[str] = ()
    """How to read the drawings, in pieces as of a paragraph."""
    size: Literal["small", "middle", "wide"] = "middle"
    """Least width of each; `wide` is all of the page."""
    legend: Sequence[tuple[str, Markup]] = ()
    """Text and mark of what all charts have in common."""


@dataclass(frozen=True)
class Details:
    """Blocks that are shown when asked for."""

    summary: str
    """What they are."""
    blocks: Sequence["Block"]
    """In order."""
    in_markdown: bool = True
    """False where Markdown, which cannot hide them, does without: their numbers are in tables/*.parquet."""


Block = Paragraph | Heading | Bullets | Code | Figures | Table | HeatStrip | Chart | Columns | Details


@dataclass(frozen=True)
class Section:
    """One topic; the first section's title is the report's own."""

    title: str
    """Its heading."""
    anchor: str
    """Its id, unique within the page."""
    blocks: Sequence[Block]
    """In order."""


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[str | Cell]], names: int = 1, **other: Any) -> Table:
    """A table from plain texts, of which the first `names` columns are names, the others numbers; other: of `Table`."""
    heads = [
        Column(column, "name" if index < names else "number") if isinstance(column, str) else column
        for index, column in enumerate(columns)
    ]
    return Table(heads, [[Cell(one) if isinstance(one, str) else one for one in row] for row in rows], **other)


def estimate_cell(value: float, stderr: float | None, gain: str = "") -> Cell:
    """A value with its standard error beside it; gain: sign of a positive value."""
    notes = () if stderr is None else (f"{formatting.PLUS_MINUS} {formatting.error(value, stderr)}",)
    return Cell((gain if value > 0 else "") + formatting.number(value), notes)


def ratio_cell(value: float, low: float, high: float) -> Cell:
    """A ratio with its interval beside it."""
    return Cell(formatting.ratio(value), (formatting.interval(low, high),))
