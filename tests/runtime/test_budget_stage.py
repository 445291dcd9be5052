"""A plan with a limit, from the config to the report, on the embedded model and Ray's workers."""

from pathlib import Path

import pyarrow.parquet as pq

from drop_ray.pipeline import run


def test_a_limit_is_kept_by_the_files_of_the_exported_checkpoint(make_config):
    config = make_config(
        model={"path": "demo:model", "dtype": "bfloat16"},  # as wide as it is stored
        calibration={"source": "demo:calibration.jsonl", "num_samples": 4, "seq_len": 64},
        plans=[{"strategy": "budget", "limit": {"bytes": "0.8x"}, "width": 3, "swap_rounds": 1}],
        evaluation={"divergence": {"source": "demo:heldout.jsonl", "num_samples": 4, "seq_len": 64}},
        export=["budget-bytes-0.8x-width3-swaps1"],
        export_formats=["dropped"],
    )
    done = run(config)
    (made,) = done.plans
    outcome = made.budget
    (size,) = outcome.limits
    written = sum(path.stat().st_size for path in Path(done.checkpoints[made.name]).glob("*.safetensors"))
    assert written == outcome.file_bytes <= size.plan <= size.limit
    assert outcome.kl_plan <= outcome.kl_solution

    rows = pq.read_table(Path(done.folder) / "tables" / "budgets.parquet").to_pylist()
    assert [(row["quantity"], row["holds"]) for row in rows] == [("bytes", True), ("score", None), ("kl", None)]
    assert rows[0]["measured"] == written
    assert rows[2]["plan"] == outcome.kl_plan
    assert "## A budget instead of a number" in (Path(done.folder) / "report.md").read_text()
    assert run(config).computed == 0
