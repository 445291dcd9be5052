"""The HTML and Markdown reports: complete, well-formed, and safe against the names in a run."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from drop_ray.report.html import SCRIPT, render_html
from drop_ray.report.markdown import render_markdown, strip
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import ArtifactRow, DocumentRow, EvaluationRow, ScoreRow, VariantRow

VOID = {"meta", "br"}
EVIL = "<script>alert('x')</script>&|`"
NUM_LAYERS = 4


def example() -> Results:
    """Four layers, seven variants, two accuracies and a perplexity that becomes infinite."""
    scores = [
        ScoreRow("base", module, layer, 1, "cosine", 0.01 * (layer + 1) ** 2, 0.001)
        for module in ("attention", "mlp", "block")
        for layer in range(NUM_LAYERS)
    ]
    scores += [ScoreRow("base", "block", layer, 2, "cosine", 0.1 + 0.1 * layer, 0.01) for layer in range(3)]
    scores += [ScoreRow("attention-1", "attention", layer, 1, "cosine", 0.02 * layer, 0.001) for layer in range(1, 4)]
    variants = [
        VariantRow("base", "base", None, 0, (), (), 1_000_000, 0, 4096, 0, None, 2_000),
        VariantRow(
            "attention-1", "attention", "cosine", 1, (0,), (), 950_000, 50_000, 3072, 1024, "s3://b/attention-1/", 2_000
        ),
        VariantRow("mlp-1", "mlp", "cosine", 1, (), (0,), 900_000, 100_000, 4096, 0, None, 2_000),
        VariantRow("block-2", "block", "cosine", 2, (0, 1), (0, 1), 700_000, 300_000, 2048, 2048, None, 2_000),
        VariantRow("random-1-s0", "random-attention", None, 1, (3,), (), 950_000, 50_000, 3072, 1024, None, 2_000),
        VariantRow("reverse-1", "reverse-attention", "cosine", 1, (2,), (), 950_000, 50_000, 3072, 1024, None, 2_000),
        VariantRow("by-hand", "file", None, 3, (0, 2), (1,), 800_000, 200_000, 2048, 2048, None, 2_000),
    ]
    evaluations, documents = [], []
    for index, variant in enumerate(variants):
        for task in ("boolq", "piqa"):
            correct = [float(doc_id >= index // 3 + 1 + (task == "piqa")) for doc_id in range(20)]
            mean = sum(correct) / 20
            stderr = math.sqrt(mean * (1 - mean) / 19)
            evaluations.append(EvaluationRow(variant.name, task, "acc", mean, stderr, True, 20, 5, True))
            documents += [DocumentRow(variant.name, task, "acc", *pair) for pair in enumerate(correct)]
        perplexity = math.inf if variant.name == "block-2" else 10.0**index
        evaluations.append(
            EvaluationRow(variant.name, "wiki", "word_perplexity", perplexity, None, False, 7, None, True)
        )
        evaluations.append(EvaluationRow(variant.name, "piqa", "acc_norm", 0.1234, 0.0567, True, 20, 5, False))
    artifacts = [ArtifactRow("scores", "artifacts/scores-1/", 2048, {"model": "abc"}, "2026-01-02T03:04:05Z")]
    facts = RunFacts(
        "first",
        "Llama-tiny",
        "0123abcd",
        NUM_LAYERS,
        "float32",
        "corpus.txt",
        "2026-01-01",
        {"torch": "2.13.0"},
        "a: 1\n",
    )
    return Results(facts, scores, variants, evaluations, documents, artifacts)


def with_evil_names() -> Results:
    results = example()
    old = "by-hand"
    return replace(
        results,
        run=replace(results.run, name=EVIL, model=EVIL, calibration=EVIL, config_yaml=EVIL, versions={EVIL: EVIL}),
        scores=[replace(row, metric=EVIL, drop_state=row.drop_state.replace("-1", EVIL)) for row in results.scores],
        variants=[
            replace(variant, name=EVIL, strategy=EVIL, metric=EVIL, checkpoint=EVIL) if variant.name == old else variant
            for variant in results.variants
        ],
        evaluations=[
            replace(row, task=row.task + EVIL, variant=EVIL if row.variant == old else row.variant)
            for row in results.evaluations
        ],
        documents=[],
        artifacts=[replace(row, step=EVIL, path=EVIL, identity={EVIL: EVIL}) for row in results.artifacts],
    )


def empty() -> Results:
    return Results(replace(example().run, num_layers=2), [], [], [], [], [])


class Page(HTMLParser):
    """Checks the nesting of all elements; collects the visible text, the tags and the ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.headline = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "h1" in self.open:
            self.headline += data


RESULTS = {
    "full": example(),
    "evil": with_evil_names(),
    "empty": empty(),
    "no evaluation": replace(example(), evaluations=[], documents=[]),
    "base only": replace(example(), variants=example().variants[:1], evaluations=[], documents=[], scores=[]),
}


@pytest.mark.parametrize("name", RESULTS)
def test_html_is_well_formed_with_unique_ids(name: str) -> None:
    page = render_html(RESULTS[name])
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(drawing)
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert root.get("aria-labelledby") == f"{root[0].get('id')} {root[1].get('id')}"
        assert "nan" not in " ".join(value for element in root.iter() for value in element.attrib.values())


def test_html_needs_no_network_and_has_no_script_but_its_own() -> None:
    page = render_html(with_evil_names())
    assert not {"link", "iframe", "img"} & set(Page(page).tags)
    assert Page(page).tags.count("script") == 1
    assert not re.search(r"""(src|href)=|url\(|@import""", page)
    assert len(SCRIPT.read_bytes()) < 40_000


def test_names_reach_the_page_as_text() -> None:
    assert render_html(with_evil_names()).count("<script") == 1
    assert EVIL in Page(render_html(with_evil_names())).text


def test_html_starts_with_the_answer_and_has_every_plan_and_number() -> None:
    results = example()
    parsed = Page(render_html(results))
    assert parsed.headline.startswith("Cannot tell whether any variant loses at most 1 point of the average")
    body = parsed.tags[parsed.tags.index("body") :]
    assert body[:4] == ["body", "main", "header", "h1"]
    for variant in results.variants:
        assert variant.name in parsed.text
    for number in (
        "95.0 %",
        "5.0 %",
        "25.0 %",
        "1.0 KiB",
        "0.1234",
        "\u00b1 0.0567",
        "inf",
        "1e+06",
        "s3://b/attention-1/",
    ):
        assert number in parsed.text, number
    for fact in ("0123abcd", "corpus.txt", "torch\u00a02.13.0", "a: 1", "artifacts/scores-1/", "2.0 KiB"):
        assert fact in parsed.text, fact
    for score in ("0.01 \u00b1 0.001", "0.16 \u00b1 0.001"):
        assert score in parsed.text


def test_exact_sizes_are_in_the_page() -> None:
    page = render_html(example())
    for size in ("950,000 kept, 50,000 saved", "3,072 bytes kept, 1,024 bytes saved"):
        assert size in page


def test_a_run_without_evaluation_still_shows_scores_and_plans() -> None:
    page = render_html(RESULTS["no evaluation"])
    text = Page(page).text
    assert "Nothing was evaluated, so no variant can be said to be acceptable." in text
    assert "most redundant first: 0, 1, 2, 3" in text
    assert "block 0-1" in text


def test_each_metric_has_charts_and_a_table_of_its_own() -> None:
    results = example()
    angular = [replace(row, metric="angular", mean=0.5 + row.mean) for row in results.scores]
    both = replace(results, scores=[*results.scores, *angular])
    parsed = Page(render_html(both))
    assert [name for name in parsed.ids if re.fullmatch(r"(scores|heat)-[0-9]-(mlp|[0-9])", name)] == [
        *("scores-0-mlp", "heat-0-0", "heat-0-1", "scores-1-mlp", "heat-1-0", "heat-1-1")
    ]
    cosine_part, angular_part = parsed.text.split("Scores of the base as numbers (cosine)")
    assert "0.66 \u00b1 0.001" not in cosine_part  # the base's last layer: 0.16 cosine, 0.66 angular
    assert angular_part.index("0.16 \u00b1 0.001") < angular_part.index("(angular)") < angular_part.index("0.66 \u00b1")
    tables = markdown_tables(render_markdown(both))
    assert [("0.16 \u00b1" in str(lines), "0.66 \u00b1" in str(lines)) for lines in tables[:2]] == [
        (True, False),
        (False, True),
    ]


def test_windows_and_iteration_states_are_drawn() -> None:
    text = Page(render_html(example())).text
    assert "block windows" in text
    assert "lowest 0-1 (0.1)" in text
    assert "attention: importance as plans grow" in text


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_equal_results_give_equal_text(render) -> None:
    assert render(example()) == render(example())


def markdown_tables(text: str) -> list[list[str]]:
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block.splitlines() for block in prose.split("\n\n")]
    return [lines for block in blocks if (lines := [line for line in block if line.startswith("|")])]


@pytest.mark.parametrize(("name", "count"), [("full", 5), ("evil", 4), ("no evaluation", 4)])
def test_markdown_tables_line_up(name: str, count: int) -> None:
    tables = markdown_tables(render_markdown(RESULTS[name]))
    assert len(tables) == count  # scores, plans, facts, artifacts; of documents also answers that changed
    for lines in tables:
        bars = [[match.start() for match in re.finditer(r"(?<!\\)\|", line)] for line in lines]
        assert all(positions == bars[0] for positions in bars)


def test_markdown_says_the_same_as_the_page() -> None:
    text = render_markdown(example())
    first = text.splitlines()[0]
    assert "Cannot tell whether any variant loses at most 1 point of the average" in first
    assert first in Page(render_html(example())).text
    for variant in example().variants:
        assert f"| {variant.name} " in text
    assert "0.9500 \u00b1 0.0500" in text


def test_markdown_never_lets_html_through_and_keeps_the_fence_closed() -> None:
    results = with_evil_names()
    hostile = replace(results, run=replace(results.run, config_yaml="a: |\n  ```\n  # heading\n"))
    text = render_markdown(hostile)
    assert "\n````yaml\n" in text
    fences_removed = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "# heading" not in fences_removed
    assert "<script" not in fences_removed


def test_text_strip_has_one_character_per_layer() -> None:
    assert strip({0: 1.0, 1: 2.2, 3: 3.0}, 5) == "\u2581\u2585\u00d7\u2588\u00d7"
