"""The one Markdown renderer: sections of blocks as text that also reads well in a terminal.

Tables line up, heat strips are block characters. Texts are escaped where Markdown would read them as table cells or as
HTML.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from tabulate import tabulate

from drop_ray.report import blocks, formatting
from drop_ray.report.charts.axes import levels
from drop_ray.report.formatting import LEVELS, NO_SCORE
from drop_ray.report.results import Results
from drop_ray.report.sections import report_sections


def render_markdown(results: Results) -> str:
    """The whole report; the first line is the answer. Sections of nothing but drawings are left out."""
    return text_of(report_sections(results))


def text_of(sections: Sequence[blocks.Section]) -> str:
    """The text of sections, the first of which is its head."""
    head, *others = sections
    parts = [escaped(head.title), *_blocks(head.blocks)]
    for section in others:
        if found := [*_blocks(section.blocks)]:
            parts += [f"## {escaped(section.title)}", *found]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that neither ends a table cell nor starts HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def strip(values: Mapping[int, float], num_layers: int) -> str:
    """One character per layer: the higher the block, the higher the score; a cross where there is none."""
    level = levels(values.values(), len(LEVELS))
    return "".join(LEVELS[int(level(values[layer]))] if layer in values else NO_SCORE for layer in range(num_layers))


def _blocks(parts: Sequence[blocks.Block]) -> Iterator[str]:
    for block in parts:
        yield from block_markdown(block)


def block_markdown(block: blocks.Block) -> Iterator[str]:
    """One block, as none or more parts with an empty line between."""
    match block:
        case blocks.Paragraph():
            if not block.of_drawings:
                yield escaped("".join(block.pieces))
        case blocks.Heading():
            yield f"### {escaped(block.text)}"
        case blocks.Bullets():
            yield "\n".join(f"- {escaped(item)}" for item in block.items)
        case blocks.Code():
            yield _fenced(block.text.rstrip("\n"), block.language)
        case blocks.Figures():
            notes = [f" ({figure.note})" if figure.note else "" for figure in block.items]
            values = (f"{one.name}: {one.value}{note}" for one, note in zip(block.items, notes, strict=True))
            yield "\n".join(f"- {escaped(value)}" for value in values)
        case blocks.Table():
            if block.title:
                yield f"### {escaped(block.title)}"
            yield _table(block)
            if block.note:
                yield escaped(block.note)
        case blocks.HeatStrip():
            yield _heat_strip(block)
        case blocks.Chart():
            yield from _blocks(block.in_text)
        case blocks.Columns():
            parts = [*_blocks(block.blocks)]
            if parts and block.title:
                yield f"### {escaped(block.title)}"
            yield from parts
        case blocks.Details():
            if block.in_markdown:
                yield f"### {escaped(block.summary)}"
                yield from _blocks(block.blocks)


def _table(table: blocks.Table) -> str:
    """Columns line up in a fixed-width font too."""
    headings = [escaped(f"{column.heading} {column.note}") for column in table.columns]
    rows = [[escaped(_cell(cell)) for cell in row] for row in table.rows]
    aligns = ["right" if column.kind == "number" else "left" for column in table.columns]
    text: str = tabulate(rows, headings, tablefmt="pipe", colalign=aligns if rows else None, disable_numparse=True)
    return text


def _cell(cell: blocks.Cell) -> str:
    badge = f"({cell.badge})" if cell.badge else ""
    return " ".join(filter(None, (cell.text, badge, *cell.notes)))


def _heat_strip(block: blocks.HeatStrip) -> str:
    width = max(len(row.label) for row in block.rows)
    lines = [f"{block.title}, layers 0-{block.num_layers - 1}", ""]
    for row in block.rows:
        low, high = formatting.score(min(row.values.values())), formatting.score(max(row.values.values()))
        found = f"{low} to {high}, lowest {row.lowest_layers}"
        lines.append(f"{row.label.ljust(width)}  {strip(row.values, block.num_layers)}  {found}")
    return _fenced("\n".join(lines))


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
