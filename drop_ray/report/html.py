"""The one HTML renderer: sections of blocks as one page without network access, inline style, script and SVG.

Texts are escaped by `Markup.format`; only this project's own style sheet, script and drawings are inserted as they are.
Without its script the page says the same: script.js adds finding, sorting, hiding and pointing.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from drop_ray.errors import UserError
from drop_ray.report import blocks
from drop_ray.report.charts.heat import heat_map
from drop_ray.report.results import Results
from drop_ray.report.sections import report_sections

ID = re.compile(r'<\w[^<>]*? id="([^"]*)"')
STYLE, SCRIPT = Path(__file__).with_name("style.css"), Path(__file__).with_name("script.js")
# A page that could ask the network for something would be refused to.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n<style>\n{style}\n</style>\n</head>\n'
    "<body>\n<main>\n{header}\n{sections}\n</main>\n<script>\n{script}\n</script>\n</body>\n</html>\n"
)


def render_html(results: Results) -> str:
    """The whole page; equal results give equal text. UserError where two things of the page have one id."""
    return page_of(report_sections(results), f"{results.run.name}: what can be dropped from {results.run.model}")


def page_of(found: Sequence[blocks.Section], title: str) -> str:
    """A page of sections, the first of which is its head. UserError where two things have one id."""
    head, others = _section(found[0], "header", "h1"), [_section(section, "section", "h2") for section in found[1:]]
    _check_ids(zip(found, (head, *others), strict=True))
    page = PAGE.format(
        title=title,
        policy=Markup(POLICY),
        style=Markup(STYLE.read_text(encoding="utf-8")),
        script=Markup(SCRIPT.read_text(encoding="utf-8")),
        header=head,
        sections=_lines(others),
    )
    return str(page)


def _section(section: blocks.Section, tag: str, heading: str) -> Markup:
    text = '<{tag} id="{anchor}">\n<{heading}>{title}</{heading}>\n{blocks}\n</{tag}>'
    parts = {"title": section.title, "anchor": section.anchor, "blocks": _blocks(section.blocks)}
    return Markup(text).format(tag=tag, heading=heading, **parts)


def _check_ids(sections: Iterable[tuple[blocks.Section, Markup]]) -> None:
    """Within texts and attributes, brackets and quotes are escaped: what looks like an id is one."""
    owners: dict[str, str] = {}
    for section, text in sections:
        for name in ID.findall(text):
            if name in owners:
                raise UserError(
                    f"report section {section.title!r}: the id {name!r} stands in {owners[name]!r} already; give the "
                    "section another anchor, or its drawing another name"
                )
            owners[name] = section.title


def _lines(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(parts)


def _each(template: str, parts: Iterable[object]) -> Markup:
    return Markup("").join(Markup(template).format(part) for part in parts)


def _blocks(parts: Sequence[blocks.Block]) -> Markup:
    return _lines(map(block_html, parts))


def block_html(block: blocks.Block) -> Markup:
    """One block."""
    match block:
        case blocks.Paragraph():
            css = Markup(' class="note"' if block.note else "")
            return Markup("<p{}>{}</p>").format(css, Markup("").join(map(_piece, block.pieces)))
        case blocks.Heading():
            return Markup("<h3>{}</h3>").format(block.text)
        case blocks.Bullets():
            return Markup("<ul>{}</ul>").format(_each("<li>{}</li>", block.items))
        case blocks.Code():
            return Markup("<pre>{}</pre>").format(block.text)
        case blocks.Figures():
            return Markup('<dl class="figures">\n{}\n</dl>').format(_lines(map(_figure, block.items)))
        case blocks.Table():
            return _table(block)
        case blocks.HeatStrip():
            return Markup("<figure>{}</figure>").format(heat_map(block))
        case blocks.Chart():
            return Markup("<figure>{}</figure>").format(block.drawing)
        case blocks.Columns():
            return _columns(block)
        case blocks.Details():
            parts = _blocks(block.blocks)
            return Markup("<details><summary>{}</summary>\n{}\n</details>").format(block.summary, parts)


def _piece(text: str) -> Markup:
    return Markup("<b>{}</b>" if isinstance(text, blocks.Strong) else "{}").format(text)


def _figure(figure: blocks.Figure) -> Markup:
    note = Markup("<small>{}</small>").format(figure.note) if figure.note else ""
    return Markup("<div><dt>{}</dt><dd>{}{}</dd></div>").format(figure.name, figure.value, note)


def _columns(columns: blocks.Columns) -> Markup:
    parts = [block_html(blocks.Heading(columns.title))] if columns.title else []
    if columns.text:
        parts.append(block_html(blocks.Paragraph(columns.text)))
    if columns.legend:
        entries = Markup("").join(Markup("<li>{} {}</li>").format(mark, text) for text, mark in columns.legend)
        parts.append(Markup('<ul class="legend">{}</ul>').format(entries))
    cells = _lines(Markup("<div>{}</div>").format(block_html(block)) for block in columns.blocks)
    return _lines([*parts, Markup('<div class="columns {}">\n{}\n</div>').format(columns.size, cells)])


def _table(table: blocks.Table) -> Markup:
    headings = Markup("").join(
        Markup('<th scope="col" class="{}">{}{}</th>').format(
            column.kind, column.heading, _each("<br><small>{}</small>", [column.note] if column.note else [])
        )
        for column in table.columns
    )
    kinds = [column.kind for column in table.columns]
    head = "" if table.look == "plain" else Markup("<thead><tr>{}</tr></thead>").format(headings)
    body = Markup('<div class="scroll {0}"><table class="{0}">\n{1}\n<tbody>\n{2}\n</tbody></table></div>')
    parts = [body.format(table.look, head, _lines(_row(row, kinds) for row in table.rows))]
    if table.title:
        parts.insert(0, Markup("<h3>{}</h3>").format(table.title))
    if table.note:
        parts.append(Markup('<p class="note">{}</p>').format(table.note))
    return _lines(parts)


def _row(row: Sequence[blocks.Cell], kinds: Sequence[str]) -> Markup:
    """The first cell is the row's heading, and its badge the row's class."""
    first = Markup('<th scope="row" class="{}">{}</th>').format(kinds[0], _cell(row[0]))
    others = (
        Markup('<td class="{}"{}>{}</td>').format(
            kind, Markup(' title="{}"').format(cell.tooltip) if cell.tooltip else "", _cell(cell)
        )
        for cell, kind in zip(row[1:], kinds[1:], strict=True)
    )
    return Markup('<tr class="{}">{}{}</tr>').format(row[0].badge, first, Markup("").join(others))


def _cell(cell: blocks.Cell) -> Markup:
    badge = Markup(' <span class="badge {0}">{0}</span>').format(cell.badge) if cell.badge else ""
    return Markup("{}{}{}{}").format(cell.drawing or "", cell.text, badge, _each(" <small>{}</small>", cell.notes))
