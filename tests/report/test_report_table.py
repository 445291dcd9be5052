"""results.parquet: every number survives, exactly, and equal results give equal bytes."""

import math
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from drop_ray.report.results import (
    ArtifactRow,
    DocumentRow,
    EvaluationRow,
    PlanRow,
    Results,
    RunFacts,
    ScoreRow,
)
from drop_ray.report.table import SCHEMA, write_results_parquet

RUN = RunFacts("r", "m", "id", 2, "float32", "c", "now", {}, "")
RESULTS = Results(
    RUN,
    [ScoreRow("base", "block", 0, 2, "cosine", 0.1, 0.2)],
    [
        PlanRow("base", "base", None, 0, (), (), 70_553_706_497, 0, 64, 0, None, 2_000),
        PlanRow("p", "joint", "cosine", 3, (0, 1), (1,), 30, 70, 0, 64, None, 2_000),
    ],
    [
        EvaluationRow("base", "a", "acc", 0.5, 0.1, True, 2, 25, True),
        EvaluationRow("p", "a", "acc", 0.0, 0.1, True, 2, None, True),
        EvaluationRow("p", "wiki", "ppl", math.inf, None, False, 3, None, True),
    ],
    [DocumentRow(name, "a", "acc", doc_id, float(name == "base")) for name in ("base", "p") for doc_id in (0, 1)],
    [ArtifactRow("scores", "artifacts/scores-1/", 123, {"k": 1}, "now")],
)


def read(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_round_trip_keeps_every_number(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    write_results_parquet(RESULTS, path)
    assert pq.read_schema(path).equals(SCHEMA)
    rows = read(path)

    def value(**where: object) -> float:
        found = [row for row in rows if all(row[key] == wanted for key, wanted in where.items())]
        assert len(found) == 1, where
        return found[0]["value"]

    assert value(kind="score", module="block", layer=0, gap=2, drop_state="base", stderr=0.2) == 0.1
    assert value(kind="plan", plan="base", name="parameters") == 70_553_706_497
    assert value(kind="plan", plan="p", name="sublayers_dropped", strategy="joint") == 3
    assert value(kind="plan", plan="p", name="kv_bytes_saved_per_token") == 64
    assert value(kind="evaluation", plan="base", task="a", name="num_fewshot") == 25
    assert value(kind="evaluation", plan="p", task="wiki", name="value", higher_is_better=False) == math.inf
    assert value(kind="document", plan="p", task="a", doc_id=1) == 0.0
    assert value(kind="comparison", plan="p", name="paired_difference", stderr=0.0) == -1.0
    assert value(kind="comparison", plan="p", name="within_one_stderr") == 0.0
    assert value(kind="artifact", step="scores", path="artifacts/scores-1/") == 123
    dropped = [(row["module"], row["layer"]) for row in rows if row["kind"] == "dropped"]
    assert dropped == [("attention", 0), ("attention", 1), ("mlp", 1)]


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_results_parquet(RESULTS, first)
    write_results_parquet(RESULTS, second)
    assert first.read_bytes() == second.read_bytes()


def test_an_empty_run_gives_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    write_results_parquet(Results(RUN, [], [], [], [], []), path)
    assert read(path) == []


def test_the_report_loads_no_heavy_library() -> None:
    code = (
        "import sys, drop_ray.report.html, drop_ray.report.markdown, drop_ray.report.table;"
        "print(sorted({'torch', 'transformers', 'ray', 'lm_eval'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
