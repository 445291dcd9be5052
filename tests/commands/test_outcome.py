"""What a finished command prints, in a terminal and elsewhere."""

import sys
from dataclasses import replace

import pytest

from drop_ray.cli import main
from drop_ray.commands.summary import outcome_lines, panel_table
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.evaluation.gates.cliff import Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.pipeline import Outcome
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import Importance, ScoreTable
from drop_ray.stages.report import Published

TABLE = ScoreTable({("mlp", layer, 1): Importance(0.1 * layer, 0.0) for layer in range(3)})
OUTCOME = Outcome(1, 0, DropPlan("base"), (), {}, "store/runs/r", None, 4, {"cosine": TABLE}, {}, {})


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_the_strip_is_coloured_in_a_terminal_that_is_not_told_otherwise(
    terminal, no_color, coloured, monkeypatch, capsys, tmp_path
):
    config = tmp_path / "r.yaml"
    config.write_text("{model: {path: 'demo:model'}, calibration: {source: 'demo:calibration.jsonl'}}")
    monkeypatch.setattr("drop_ray.pipeline.run", lambda *_: OUTCOME)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert main(["score", str(config)]) == 0
    output = capsys.readouterr().out
    assert ("\x1b[" in output) == coloured
    assert "mlp  " in output
    assert ("▁<▃▃▆▆× " in output) != coloured


def test_panels_are_a_row_each():
    values = {"kl": 0.00713, "kl_stderr": 0.00051, "kl_p99": 0.125, "top1_agreement": 0.944, "acceptance": 0.98}
    panel = Panel(**{**dict.fromkeys(Panel.__dataclass_fields__, 1), **values})
    heading, row = panel_table({"attention-1": panel})
    assert heading.split("  ")[0] == "variant"
    assert row.split() == ["attention-1", "0.00713", "(se", "0.00051)", "0.125", "94.4%", "98.0%"]


def test_drafts_are_a_row_for_each_number_of_tokens():
    speedup = {"ratio": 1.5, "low": 1.4, "high": 1.6}
    row = {"control": False, "tokens": 2, "identical": 20, "prompts": 20, "acceptance": [0.9, 0.75], "speedup": speedup}
    control = {**row, "control": True, "tokens": 0, "acceptance": []}
    wrong = {**row, "tokens": 3, "identical": 19, "speedup": None}
    drafts = {"base": [control], "attention-4": [row, wrong]}
    lines = [" ".join(line.split()) for line in outcome_lines(replace(OUTCOME, drafts=drafts))]
    at = lines.index("draft tokens same output acceptance by position output tokens/s")
    assert lines[at + 1 : at + 4] == [
        "base (no draft) - 20 of 20 - x1.50 (1.40 to 1.60)",
        "attention-4 2 20 of 20 0.900 0.750 x1.50 (1.40 to 1.60)",
        "attention-4 3 19 of 20 0.900 0.750 -",
    ]


def test_verdicts_and_cliffs_are_printed_with_their_reasons():
    verdicts = {"a-1": Verdict("accept", "none loses more", ()), "a-8": Verdict("regression", "copying: it loses", ())}
    cliffs = (
        Cliff("attention", 12, 4, 5, "copying: it loses", (6, 3, 4, 5), (), "attention-4"),
        Cliff("mlp", 12, 12, None, "", (6, 9, 11, 12), (), "mlp-12"),
    )
    lines = [" ".join(line.split()) for line in outcome_lines(replace(OUTCOME, verdicts=verdicts, cliffs=cliffs))]
    at = lines.index("damage gates verdict why")
    assert lines[at + 1 : at + 3] == ["a-1 accept none loses more", "a-8 regression copying: it loses"]
    at = lines.index("cliff passes of evaluations the next larger")
    assert lines[at + 1 : at + 3] == ["attention 4 12 4 5: copying: it loses", "mlp 12 12 4"]


def test_what_became_of_logging_stands_before_the_report():
    published = Published("store/runs/r/report.html", "The answer.")
    told = replace(OUTCOME, tracked=("MLflow: run 1 of drop_ray at http://mlflow",), published=published)
    lines = [*outcome_lines(told)]
    assert lines[lines.index("report: store/runs/r/report.html") - 1] == told.tracked[0]
