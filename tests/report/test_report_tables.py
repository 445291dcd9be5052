"""tables/*.parquet: every number survives in columns of its own type, described; equal results give equal bytes."""

import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drop_ray.job.run_files import RunFiles
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import ArtifactRow, DocumentRow, EvaluationRow, ScoreRow, VariantRow
from drop_ray.report.tables import TOPICS, documentation, parquet_files, table_columns, topic_table
from drop_ray.stages.report import write_tables
from drop_ray.store import open_store

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "report-tables.md"
RUN = RunFacts("r", "m", "id", 2, "float32", "c", "now", {}, "")
RESULTS = Results(
    RUN,
    [ScoreRow("base", "block", 0, 2, "cosine", 0.1, 0.2)],
    [
        VariantRow("base", "base", None, 0, (), (), 70_553_706_497, 0, 64, 0, None, 2_000),
        VariantRow("p", "joint", "cosine", 3, (0, 1), (1,), 30, 70, 0, 64, None, 2_000),
    ],
    [
        EvaluationRow("base", "a", "acc", 0.5, 0.1, True, 2, 25, True),
        EvaluationRow("p", "a", "acc", 0.0, 0.1, True, 2, None, True),
        EvaluationRow("p", "wiki", "ppl", math.inf, None, False, 3, None, True),
    ],
    [DocumentRow(name, "a", "acc", doc_id, float(name == "base")) for name in ("base", "p") for doc_id in (0, 1)],
    [ArtifactRow("scores", "artifacts/scores-1/", 123, {"k": 1}, "now")],
)


def read(results: Results) -> dict[str, pa.Table]:
    return {topic: pq.read_table(io.BytesIO(content)) for topic, content in parquet_files(results)}


def test_files_keep_every_number_and_topics_without_rows_have_none() -> None:
    tables = {topic: table.to_pylist() for topic, table in read(RESULTS).items()}
    assert [*tables] == [
        "variants",
        "scores",
        "evaluations",
        "documents",
        "comparisons",
        "acceptance",
        "flips",
        "artifacts",
    ]
    assert tables["scores"] == [
        {
            **{"drop_state": "base", "module": "block", "layer": 0, "gap": 2},
            **{"metric": "cosine", "mean": 0.1, "stderr": 0.2},
        }
    ]
    base, variant = tables["variants"]
    assert base["parameters"] == 70_553_706_497
    assert (variant["drop_attn"], variant["drop_mlp"], variant["sublayers_dropped"]) == ([0, 1], [1], 3)
    assert (variant["kv_bytes_saved_per_token"], variant["quantization_bits"]) == (64, None)
    assert [row["value"] for row in tables["evaluations"]] == [0.5, 0.0, math.inf]
    assert [row["num_fewshot"] for row in tables["evaluations"]] == [25, None, None]
    assert [row["higher_is_better"] for row in tables["evaluations"]] == [True, True, False]
    assert [row["value"] for row in tables["documents"]] == [1.0, 1.0, 0.0, 0.0]
    assert tables["comparisons"][0]["paired_value"] is None
    compared = {name: tables["comparisons"][1][name] for name in ("variant", "average_value")}
    assert compared == {"variant": "p", "average_value": 0.0}
    (judged,) = tables["acceptance"]
    assert (judged["outcome"], judged["loss"], judged["falls"]) == ("cannot tell", 1.0, [])
    paired = [tables["comparisons"][1][f"paired_{name}"] for name in ("value", "stderr", "num_documents")]
    assert paired == [-1.0, 0.0, 2]
    assert tables["artifacts"] == [
        {"step": "scores", "path": "artifacts/scores-1/", "bytes": 123, "identity": '{"k":1}', "created": "now"}
    ]


def test_a_topic_that_has_no_rows_any_more_loses_its_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_tables(RunFiles(store, "runs/r"), RESULTS)
    write_tables(RunFiles(store, "runs/r"), replace(RESULTS, scores=[]))
    topics = ("acceptance", "artifacts", "comparisons", "documents", "evaluations", "flips", "variants")
    assert store.list("runs/r/tables") == [f"{topic}.parquet" for topic in topics]


def test_equal_results_give_equal_bytes() -> None:
    assert [*parquet_files(RESULTS)] == [*parquet_files(RESULTS)]


def test_an_empty_run_gives_no_files() -> None:
    assert read(Results(RUN, [], [], [], [], [])) == {}


@pytest.mark.parametrize("topic", TOPICS)
def test_every_column_is_described_in_the_file_and_in_the_documentation(topic: str) -> None:
    schema = topic_table(topic, RESULTS).schema
    section = DOCUMENTATION.read_text().split(f"## {topic}\n")[1].split("\n## ")[0]
    for column, field in zip(table_columns(TOPICS[topic][0]), schema, strict=True):
        assert field.metadata[b"description"].decode() == column.description
        assert len(column.description) > 5
        assert f"`{field.name}`" in section
    assert not any(pa.types.is_null(field.type) for field in schema)


def test_the_documentation_is_the_tables_own() -> None:
    assert DOCUMENTATION.read_text() == documentation()


def test_the_report_loads_no_heavy_library() -> None:
    code = (
        "import sys, drop_ray.report.html, drop_ray.report.markdown, drop_ray.report.tables;"
        "from drop_ray.report.sections import SECTIONS; [SECTIONS.load(name) for name in SECTIONS.names];"
        "print(sorted({'torch', 'transformers', 'ray', 'lm_eval'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
