"""Blocks are rendered by kind alone, and a package from outside adds a section without a line here."""

import importlib
import sys
from dataclasses import replace

import pytest
from markupsafe import Markup
from test_report_render import EVIL, Page, example

from drop_ray.errors import UserError
from drop_ray.report import blocks, html, sections
from drop_ray.report.html import block_html, render_html
from drop_ray.report.markdown import block_markdown, render_markdown

FOREIGN = """
from drop_ray.report.blocks import Paragraph, Section, table

def energy_sections(results):
    rows = [(variant.name, str(variant.parameters)) for variant in results.variants]
    return [Section("Energy", "energy", [Paragraph("From outside."), table(("variant", "joules"), rows)])]
"""


@pytest.fixture
def foreign_section(tmp_path, monkeypatch):
    """An installed package with an entry point of its own."""
    (tmp_path / "my_energy_report.py").write_text(FOREIGN)
    package = tmp_path / "my_energy_report-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-energy-report\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[drop_ray.sections]\nenergy = my_energy_report:energy_sections\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(sections, "SECTIONS", replace(sections.SECTIONS))
    yield
    sys.modules.pop("my_energy_report", None)


def test_a_section_from_outside_stands_before_what_was_run(foreign_section) -> None:
    page, text = render_html(example()), render_markdown(example())
    for found, heading in ((page, "<h2>{}</h2>"), (text, "## {}\n")):
        places = [found.index(heading.format(title)) for title in ("Variants", "Energy", "How it was made")]
        assert places == sorted(places)
    assert "From outside." in Page(page).text
    assert "joules" in text


def test_without_a_package_there_are_the_projects_own() -> None:
    anchors = [section.anchor for section in sections.report_sections(example())]
    assert anchors == ["answer", "scores", "quality", "front", "variants", "answers", "provenance"]


EVERY_BLOCK = [
    blocks.Paragraph((EVIL, blocks.Strong(EVIL))),
    blocks.Heading(EVIL),
    blocks.Bullets([EVIL]),
    blocks.Figures([blocks.Figure(EVIL, EVIL, EVIL)]),
    blocks.Table([blocks.Column(EVIL, note=EVIL)], [[blocks.Cell(EVIL, (EVIL,), EVIL, EVIL)]], EVIL, EVIL),
    blocks.HeatStrip("h", EVIL, 2, [blocks.HeatRow(EVIL, {0: 1.0}, note=EVIL, tooltips={0: EVIL})]),
    blocks.Columns([blocks.Bullets([EVIL])], EVIL, [EVIL], legend=[(EVIL, Markup("<svg/>"))]),
    blocks.Details(EVIL, [blocks.Paragraph(EVIL)]),
]


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=lambda block: type(block).__name__)
def test_texts_of_every_block_are_escaped(block: blocks.Block) -> None:
    page = block_html(block)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    text = "\n".join(part for part in block_markdown(block) if not part.startswith("```"))
    assert "<script" not in text


def test_columns_of_drawings_alone_are_nothing_in_markdown() -> None:
    drawing = blocks.Chart(Markup("<svg/>"))
    assert list(block_markdown(blocks.Columns([drawing], "Title", ["how to read them"]))) == []
    found = blocks.Columns([blocks.Chart(Markup("<svg/>"), [blocks.Bullets(["in words"])])], "Title", ["no"])
    assert list(block_markdown(found)) == ["### Title", "- in words"]


def test_details_that_markdown_cannot_hide_are_left_out_of_it() -> None:
    hidden = blocks.Details("all of it", [blocks.Paragraph("much")], in_markdown=False)
    assert list(block_markdown(hidden)) == []
    assert "<details><summary>all of it</summary>" in block_html(hidden)


def test_a_badge_marks_the_row() -> None:
    row = [blocks.Cell("a", badge="answer"), blocks.Cell("1")]
    found = blocks.Table([blocks.Column("name", "name"), blocks.Column("value")], [row])
    assert '<tr class="answer"><th scope="row" class="name">a <span class="badge answer">' in block_html(found)
    assert "| a (answer) |" in next(block_markdown(found))


def test_a_run_without_plans_reports_what_the_base_reaches() -> None:
    everything = example()
    base = everything.variants[0].name
    alone = replace(
        everything,
        variants=everything.variants[:1],
        evaluations=[row for row in everything.evaluations if row.variant == base],
        documents=[row for row in everything.documents if row.variant == base],
    )
    value = f"{alone.evaluations[0].value:.3f}".rstrip("0")
    assert value in Page(render_html(alone)).text
    assert value in render_markdown(alone)


@pytest.mark.parametrize("of", ["an anchor", "a heat strip", "a drawing"])
def test_an_id_that_the_page_has_already_names_both_sections_and_the_remedy(of: str, monkeypatch) -> None:
    row = blocks.HeatRow("base", {0: 1.0})
    taken, found = {
        "an anchor": ("variants", blocks.Section("Energy", "variants", [])),
        "a heat strip": ("e-1", blocks.Section("Energy", "energy", [blocks.HeatStrip("e-1", "J", 1, [row])] * 2)),
        "a drawing": ("x", blocks.Section("Energy", "x", [blocks.Chart(Markup('<svg width="1" id="x"/>'))])),
    }[of]
    own = sections.report_sections(example())
    monkeypatch.setattr(html, "report_sections", lambda results: [*own, found])
    owner = "Variants" if of == "an anchor" else "Energy"
    expected = f"report section 'Energy': the id '{taken}' stands in '{owner}' already; give the section another anchor"
    with pytest.raises(UserError, match=expected):
        render_html(example())


def test_a_text_that_looks_like_an_id_is_none(monkeypatch) -> None:
    texts = blocks.Section("Energy", "energy", [blocks.Paragraph('<b id="variants">'), blocks.Code('<p id="energy">')])
    own = sections.report_sections(example())
    monkeypatch.setattr(html, "report_sections", lambda results: [*own, texts])
    assert 'id="energy">' in render_html(example())
