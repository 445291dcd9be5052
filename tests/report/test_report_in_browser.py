"""The report in Chromium: it is worked in as a reader would, and nothing overflows or covers another thing."""

from itertools import pairwise

import pytest
from browser import CHROMIUM, in_browser
from large_results import NUM_PLANS, TASKS, large_results
from quantized_results import quantized_results

from drop_ray.report.html import render_html

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)"),
]
NUM_VARIANTS = 4 * NUM_PLANS
PAPER = 1032
"""Pixels of 273 mm."""
READ = """
const names = () => [...document.querySelectorAll("#variants > .scroll tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.dataset.variant);
const press = (node) => node.dispatchEvent(new MouseEvent("click", {bubbles: true}));
const write = (text) => { const box = document.getElementById("find"); box.value = text;
  box.dispatchEvent(new Event("input")); };
const heading = (text) => [...document.querySelectorAll("#variants > .scroll thead button")]
  .find((button) => button.textContent.startsWith(text));
"""
# Boxes of what is written in drawings: none may leave its drawing, and none may cover another.
LAYOUT = """
const within = (a, b) => a.left > b.left - 1 && a.right < b.right + 1 && a.top > b.top - 1 && a.bottom < b.bottom + 1;
const cover = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
const faults = [];
for (const svg of document.querySelectorAll("figure svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((node) => [node.textContent, node.getBoundingClientRect()]);
  texts.forEach(([text, box], at) => {
    if (!within(box, frame)) faults.push(`${svg.id}: "${text}" is clipped`);
    for (const [other, second] of texts.slice(at + 1))
      if (cover(box, second)) faults.push(`${svg.id}: "${text}" covers "${other}"`);
  });
}
const page = document.documentElement;
return {width: innerWidth, overflow: page.scrollWidth - page.clientWidth, faults};
"""
MANY, SOME, CHANGED = "40 variants", "13 variants", "quantized and served"


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(large_results())


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", [MANY, SOME, CHANGED])
def test_nothing_overflows_and_no_text_covers_another_or_is_clipped(page: str, which: str, width: int) -> None:
    others = {SOME: lambda: large_results(13, ((),)), CHANGED: quantized_results}
    shown = render_html(others[which]()) if which in others else page
    assert in_browser(shown, LAYOUT, width=width) == {"width": width, "overflow": 0, "faults": []}


def test_nothing_is_wider_than_a_sheet_of_paper(page: str) -> None:
    """As printed, on A4 in landscape without its margins: 273 mm."""
    found = in_browser(
        page.replace("@media print {", "@media all {"),
        """document.querySelectorAll("details").forEach((one) => { one.open = true; });
        return {tables: document.querySelectorAll("table").length,
          wide: [...document.querySelectorAll("table, figure svg, pre, p, h1, ul")]
            .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
            .map((node) => [node.closest("section")?.id, node.getBoundingClientRect().right, node.tagName])
        };""",
        width=PAPER,
    )
    assert found["wide"] == []
    assert found["tables"] > 5


def test_commands_are_open_while_it_prints(page: str) -> None:
    found = in_browser(
        page,
        """const open = () => [...document.querySelectorAll("details")].filter((one) => one.open).length;
        const before = open(); dispatchEvent(new Event("beforeprint")); const then = open();
        const config = document.querySelector("#provenance details").open; dispatchEvent(new Event("afterprint"));
        return {before, then, config, after: open()};""",
    )
    assert (found["before"], found["after"], found["config"]) == (0, 0, True)
    assert found["then"] >= 1


@pytest.mark.parametrize("width", [1280, 390])
def test_variants_are_found_by_words(page: str, width: int) -> None:
    found = in_browser(
        page,
        READ
        + """const before = names().length; write("joint refit"); const shown = names();
        const away = document.querySelectorAll("svg .away").length; const address = location.hash;
        write(""); return {before, shown, away, address, after: names().length};""",
        width=width,
    )
    assert (found["before"], found["after"]) == (NUM_VARIANTS + 1, NUM_VARIANTS + 1)
    assert len(found["shown"]) == 5
    assert found["shown"][0] == "base"
    assert all("joint" in name and "refit" in name for name in found["shown"][1:])
    assert found["away"] > 0
    assert found["address"] == "#find=joint+refit"


def test_tables_sort_by_numbers_and_return_to_their_order(page: str) -> None:
    found = in_browser(
        page,
        READ
        + """const before = names(), button = heading("weights"); press(button); const down = names();
        const state = button.closest("th").ariaSort; press(button); const up = names(); press(button);
        return {before, down, up, state, after: names()};""",
    )
    by_name = {variant.name: variant.weight_bytes for variant in large_results().variants}
    down, up = ([by_name[name] for name in found[way]] for way in ("down", "up"))
    assert down != [by_name[name] for name in found["before"]]
    # To the digits that are shown.
    assert all(one > 0.97 * other for one, other in pairwise(down))
    assert all(other > 0.97 * one for one, other in pairwise(up))
    assert (found["state"], found["after"]) == ("descending", found["before"])


def test_a_chosen_variant_is_followed_through_every_table_and_drawing(page: str) -> None:
    found = in_browser(
        page,
        READ
        + """press(document.querySelector('#quality svg [data-variant="joint-4"]'));
        const panel = document.querySelector(".panel"), chosen = document.querySelectorAll("svg .chosen").length;
        const text = panel.textContent, drawn = Boolean(panel.querySelector("svg")), address = location.hash;
        document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
        return {chosen, text, drawn, address, hidden: panel.hidden};""",
    )
    assert found["chosen"] >= len(TASKS) + 1
    assert "joint-4" in found["text"]
    assert found["drawn"]
    assert (found["address"], found["hidden"]) == ("#variant=joint-4", True)


def test_the_value_under_the_pointer_is_shown(page: str) -> None:
    found = in_browser(
        page,
        """const mark = document.querySelector('#quality [data-variant="attention-4"] .mark');
        mark.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 300, clientY: 300}));
        const tip = document.querySelector(".tip"); return {text: tip.textContent, hidden: tip.hidden};""",
    )
    assert not found["hidden"]
    assert found["text"].startswith("attention-4: 0.")


def test_columns_are_hidden_and_the_address_restores_all_of_it(page: str) -> None:
    state = in_browser(
        page,
        READ
        + """press(heading("weights")); write("mlp");
        const box = document.querySelector("#variants .columns-shown input[value='2']"); box.checked = false;
        box.dispatchEvent(new Event("change")); return {address: location.hash, shown: names()};""",
    )
    again = in_browser(
        page,
        READ
        + """return {shown: names(), hidden: document.querySelector("#variants tbody tr").cells[2].hidden,
        find: document.getElementById("find").value};""",
        fragment=state["address"],
    )
    assert again == {"shown": state["shown"], "hidden": True, "find": "mlp"}
    assert len(again["shown"]) == 9


def test_a_link_to_a_section_is_no_state(page: str) -> None:
    assert in_browser(page, READ + "return names().length", fragment="#quality") == NUM_VARIANTS + 1
