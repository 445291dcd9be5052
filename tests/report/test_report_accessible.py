"""The report for those who read it by keyboard or by ear: axe-core finds nothing, and every value is reached."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import CHROMIUM, in_browser
from large_results import TASKS, large_results
from quantized_results import quantized_results

from drop_ray.report.html import render_html

BUNDLE = find_spec("axe_playwright_python")
"""The package that brings axe-core's file; nothing of its own code is run."""
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)"),
]
PAGES = {"quantized and served": quantized_results, "40 variants, 9 tasks": large_results}
CHECK = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const found = await axe.run(document, {rules: {"color-contrast": {enabled: CONTRAST}}});
return {passed: found.passes.length, faults: found.violations.flatMap((rule) =>
  rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 200)}: ${node.failureSummary}`)).slice(0, 20)};
"""
PRESS = """
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const tip = document.querySelector(".tip");
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_html(results()) for name, results in PAGES.items()}


@pytest.mark.skipif(BUNDLE is None, reason="axe-core is not installed (in requirements/cpu-full.lock)")
@pytest.mark.parametrize(
    ("name", "dark", "contrast"),
    [
        ("quantized and served", False, True),
        ("quantized and served", True, True),
        # Minutes, for thousands of cells whose styles are those of the other page.
        pytest.param("40 variants, 9 tasks", False, False, marks=pytest.mark.nightly),
        pytest.param("40 variants, 9 tasks", True, True, marks=pytest.mark.nightly),
    ],
)
def test_axe_finds_no_violation(pages: dict[str, str], name: str, dark: bool, contrast: bool) -> None:
    assert BUNDLE is not None
    assert BUNDLE.origin is not None
    axe = Path(BUNDLE.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    found = in_browser(pages[name], f"const CONTRAST = {str(contrast).lower()};{axe};{CHECK}", dark=dark)
    assert found["faults"] == []
    assert found["passed"] > 20


def test_axe_would_find_a_fault(pages: dict[str, str]) -> None:
    """That the check can fail: a button without a name, and a text that cannot be read."""
    if BUNDLE is None or BUNDLE.origin is None:
        pytest.skip("axe-core is not installed")
    axe = Path(BUNDLE.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    broken = pages["quantized and served"].replace(
        "<main>", '<main><button></button><p style="color:#777;background:#888">Who reads this?</p>'
    )
    faults = in_browser(broken, f"const CONTRAST = true;{axe};{CHECK}")["faults"]
    assert {fault.split(":")[0] for fault in faults} == {"button-name", "color-contrast"}


def test_arrows_read_the_marks_of_a_drawing_and_enter_chooses(pages: dict[str, str]) -> None:
    found = in_browser(
        pages["40 variants, 9 tasks"],
        PRESS
        + """const drawing = document.querySelector("#average"); drawing.focus();
        const own = [...drawing.querySelectorAll("[data-tip]")].map((mark) => mark.dataset.tip), read = [];
        for (let step = 0; step < own.length; step += 1) { press("ArrowRight"); read.push(tip.textContent); }
        press("ArrowRight"); const around = tip.textContent; press("ArrowLeft"); const back = tip.textContent;
        const shown = !tip.hidden, name = drawing.querySelector(".pointed").dataset.variant;
        press("Enter"); const address = location.hash; drawing.blur();
        return {own, read, around, back, shown, name, address, hidden: tip.hidden};""",
    )
    assert found["read"] == found["own"]
    assert len(found["own"]) > 10
    assert (found["around"], found["back"]) == (found["own"][0], found["own"][-1])
    assert (found["shown"], found["hidden"]) == (True, True)
    assert found["address"] == f"#variant={found['name']}"


def test_whatever_the_pointer_works_the_keyboard_reaches(pages: dict[str, str]) -> None:
    found = in_browser(
        pages["40 variants, 9 tasks"],
        """document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const reached = (node) => node.closest("a, button, input, select, summary, [tabindex='0']");
        return {tips: [...document.querySelectorAll("[data-tip]")].filter((node) => !reached(node)).length,
          marks: document.querySelectorAll("figure [data-tip]").length,
          titles: document.querySelectorAll("tr:not([data-variant]) td[title]").length};""",
    )
    assert found["marks"] > 9 * 20
    assert (found["tips"], found["titles"]) == (0, 0)


def test_the_panel_says_what_cells_of_a_variant_say_under_the_pointer(pages: dict[str, str]) -> None:
    found = in_browser(
        pages["40 variants, 9 tasks"],
        """const row = document.querySelector("#variants tr[data-variant='joint-4']");
        row.querySelector("button.variant").click();
        return {titles: [...row.querySelectorAll("td[title]")].map((cell) => cell.title),
          panel: document.querySelector(".panel").textContent};""",
    )
    assert len(found["titles"]) == 2
    assert all(title in found["panel"] for title in found["titles"])


def test_what_has_the_focus_is_seen(pages: dict[str, str]) -> None:
    outlines = in_browser(
        pages["40 variants, 9 tasks"],
        """document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const kinds = ["#find", "button.sort", "button.variant", "summary", "figure svg[tabindex]", ".bar select"];
        return kinds.map((css) => { const node = document.querySelector(css); node.focus({focusVisible: true});
          const style = getComputedStyle(node); return [css, document.activeElement === node, style.outlineStyle,
          parseFloat(style.outlineWidth) >= 2]; });""",
    )
    assert all(one[1:] == [True, "solid", True] for one in outlines), outlines


def test_variants_are_filtered_by_strategy_change_and_task(pages: dict[str, str]) -> None:
    found = in_browser(
        pages["40 variants, 9 tasks"],
        """const select = (name, value) => { const box = document.querySelector(`.bar [aria-label=${name}]`);
          box.value = value; box.dispatchEvent(new Event("change")); return box.value; };
        const names = () => [...document.querySelectorAll("#variants > .scroll tbody tr")].filter((row) => !row.hidden)
          .map((row) => row.dataset.variant);
        const columns = () => [...document.querySelectorAll("#variants > .scroll thead th")]
          .filter((cell) => !cell.hidden && /[\\u2191\\u2193]/.test(cell.textContent)).length;
        const before = columns(); select("strategy", "joint"); select("change", "refit + gptq"); const shown = names();
        select("task", "piqa");
        const charts = [...document.querySelectorAll("#quality .columns > div")].filter((one) => !one.hidden).length;
        const rows = [...document.querySelectorAll("#variants details tbody tr")].filter((row) => !row.hidden)
          .map((row) => row.cells[1].textContent);
        const found = {before, shown, columns: columns(), charts, rows, address: location.hash};
        select("strategy", ""); select("change", ""); select("task", "");
        return {...found, after: [columns(), names().length]};""",
    )
    assert found["shown"] == ["base", "joint-4-refit-gptq", "joint-6-refit-gptq"]
    assert (found["columns"], found["charts"]) == (found["before"] - len(TASKS) + 1, 1)
    assert found["rows"] == ["piqa"] * 3
    assert found["address"] == "#strategy=joint&change=refit+%2B+gptq&task=piqa"
    assert found["after"] == [found["before"], 41]
