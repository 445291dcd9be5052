"""The command line as a person meets it: exit codes, what it says, and export of a plan made by hand."""

import json
import shutil

import pytest
import torch
import yaml
from tiny_models import make_model, token_ids
from tiny_run import config_values, write_config

import drop_ray
from drop_ray.cli import main
from drop_ray.models.checkpoint import open_checkpoint


@pytest.fixture
def config(inputs, tmp_path):
    return lambda **fields: write_config(tmp_path / "mine.yaml", inputs, tmp_path / "store", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modle": 1}, "modle: unknown key; did you mean `model`?"),
        ({"model": {"path": "no/such/model"}}, "no/such/model) is neither a folder"),
        ({"plans": [{"strategy": "attention", "drop": 5}]}, "plans[0].drop: 5 is more than the model's 4"),
    ],
)
def test_bad_input_is_said_on_one_line_with_exit_code_2(config, capsys, fields, message):
    assert main(["run", config(**fields)]) == 2
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert "Traceback" not in errors


def test_a_check_reads_the_data_of_tasks_which_a_dry_run_does_not_and_starts_nothing(
    inputs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("drop_ray.runtime.cluster.join_or_start", lambda _: pytest.fail("Ray was started"))
    tasks = shutil.copytree(inputs / "tasks", tmp_path / "tasks")
    values = config_values(inputs, tmp_path / "store")
    values["evaluation"]["include_path"] = str(tasks)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["run", str(path), "--check"]) == 0
    assert "score base" in capsys.readouterr().out
    (tasks / "test.jsonl").write_text("no JSON")
    assert main(["run", str(path), "--dry-run"]) == 0
    assert main(["run", str(path), "--check"]) == 2
    assert "choose" in capsys.readouterr().err


def test_work_that_fails_has_exit_code_1(config, capsys, local_ray):
    assert main(["evaluate", config(tasks=["broken"], plans=[])]) == 1
    assert "base on broken failed" in capsys.readouterr().err


def test_dry_run_run_status_and_run_again(config, capsys, local_ray):
    path = config(export=["attention-1"])
    assert main(["run", path, "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "score base" in planned
    assert "2 depend on scores to come" in planned
    assert main(["status", path]) == 2
    assert "has no run run" in capsys.readouterr().err

    assert main(["run", path]) == 0
    output = capsys.readouterr().out
    assert "0 were done before" in output
    assert "report.html" in output
    assert main(["status", path]) == 0
    status = capsys.readouterr().out.splitlines()
    assert all("  done  " in line for line in status[:-2])
    assert "attention-1 on choose" in "\n".join(status)

    assert main(["run", path, "--dry-run"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Nothing to do.")
    assert main(["run", path]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_plan_made_by_hand_is_exported_without_ray(config, capsys, inputs, tmp_path):
    plan = tmp_path / "by_hand.json"
    plan.write_text(json.dumps({"drop_attn": [3, 0], "drop_mlp": [3]}))
    output = tmp_path / "dropped"
    assert main(["export", config(), "--plan", str(plan), "--output", str(output)]) == 0
    assert json.loads((output / "config.json").read_text())["drop_attn_list"] == [0, 3]
    assert len(open_checkpoint(output).tensors) == len(open_checkpoint(inputs / "model").tensors) - 14
    full = make_model()
    for layer, module in ((0, "self_attn"), (3, "self_attn"), (3, "mlp")):
        part = getattr(full.model.layers[layer], module)
        (part.o_proj if module == "self_attn" else part.down_proj).weight.data.zero_()
    ids = token_ids(2, 12)
    with torch.no_grad():
        assert torch.equal(drop_ray.load(output)(ids).logits, full(ids).logits)

    export = ["export", config(), "--plan", str(plan), "--format", "plain", "--output", str(tmp_path / "plain")]
    assert main(export) == 2
    assert "can lack whole blocks only" in capsys.readouterr().err
    plan.write_text(json.dumps({"drop_attn": [3], "drop_mlp": [3]}))
    assert main(export) == 0
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["num_hidden_layers"] == 3
    assert main(["export", config(), "--format", "plain"]) == 2
    assert "--plan and --output go together, and --format with them" in capsys.readouterr().err

    plan.write_text(json.dumps({"drop_attn": [7]}))
    assert main(["export", config(), "--plan", str(plan), "--output", str(tmp_path / "other")]) == 2
    assert "drop_attn names layer 7" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main(["export", config(), "--plan", "attention-9", "--output", str(tmp_path / "other")]) == 2
    assert "its plans: attention-1, attention-2" in capsys.readouterr().err
    assert main(["export", config(), "--plan", "attention-1"]) == 2
