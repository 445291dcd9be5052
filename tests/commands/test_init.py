"""`drop-ray init`: the config fits its model, runs as it is, and what is commented out is valid too."""

import re
from pathlib import Path

import pytest
import tiny_models
import yaml
from tiny_models import edit_json, write_checkpoint

from drop_ray.cli import main
from drop_ray.commands.examples import example_names
from drop_ray.config import CALIBRATION, DIVERGENCE, load_config, perplexity_field
from drop_ray.job.first_config import ModelFacts, first_config
from drop_ray.job.opening import open_job
from drop_ray.job.texts import load_calibration, load_texts
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers

STORE = "store={}/store"
CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


@pytest.fixture
def llama(tmp_path):
    return write_checkpoint(tmp_path / "tiny", num_layers=8)


def facts(**fields):
    return ModelFacts(
        **{
            "path": "models/Llama-3-8B",
            "dtype": "bfloat16",
            "needs_eager": False,
            "is_listed": True,
            "layers": Layers(32),
            "lacking": DropLists(),
            "max_positions": 8192,
            "calibration_tokens": 75_000,
            "held_out_tokens": 10_000,
            **fields,
        }
    )


def parsed(**fields):
    return yaml.safe_load(first_config(facts(**fields), "llama.yaml"))


def test_a_config_fits_its_model_and_the_texts_are_long_enough(llama, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(llama)]) == 0
    assert "drop-ray run tiny.yaml --dry-run" in capsys.readouterr().out
    job = open_job(load_config("tiny.yaml", [STORE.format(tmp_path)]))
    assert job.config.model.dtype == "float32"  # as the checkpoint is stored
    assert [request.name for request in job.requests][:4] == [f"attention-{count}" for count in (1, 2, 3, 4)]
    assert load_calibration(job).shape == (job.config.calibration.num_samples, 256)  # as many positions as it has
    assert {field: len(samples) for field, samples in load_texts(job).items()} == {
        CALIBRATION: job.config.calibration.num_samples,
        **dict.fromkeys((perplexity_field(job.config.evaluation.perplexity[0].name), DIVERGENCE), 156),
    }


@pytest.mark.alone
@pytest.mark.full
def test_a_config_runs_as_it_is(llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(llama), "--output", "first.yaml"]) == 0
    few = ["--set", "calibration.num_samples=8", "--set", "evaluation.perplexity.0.num_samples=4"]
    assert main(["run", "first.yaml", *few]) == 0
    assert (tmp_path / "drop-ray-store" / "runs" / "first" / "report.html").is_file()


def test_the_demo_model_is_a_model_like_any_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "demo:model"]) == 0
    config = load_config("demo-model.yaml", [STORE.format(tmp_path)])
    assert open_job(config).size.num_layers == 12
    assert config.name == "demo-model"


def test_what_is_commented_out_is_valid_when_it_is_taken_up(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(first_config(facts(path="org/model"), path.name))
    before = load_config(path)
    assert (before.quantization, before.serving, before.evaluation.tasks) == ((), None, ())
    everything = re.sub(r"^( *)# (?=( *)(# |- \{|[a-z_]+:))", r"\1", path.read_text(), flags=re.MULTILINE)
    path.write_text(everything)
    config = load_config(path, ["store=s3://bucket/prefix"])  # store_options are for a store on S3
    assert config.model.revision == "main"
    assert [spec.method for spec in config.quantization] == ["awq", "gptq"]
    assert config.serving.model_len == 4096
    assert [task.name for task in config.evaluation.tasks] == ["arc_challenge", "boolq"]


def test_every_field_stands_below_its_meaning():
    lines = first_config(facts(), "llama.yaml").splitlines()
    fields = [index for index, line in enumerate(lines) if re.match(r" *[a-z_]+:", line)]
    assert len(fields) > 15
    assert all(lines[index - 1].lstrip().startswith("#") for index in fields)


@pytest.mark.parametrize(
    ("fields", "path", "value"),
    [
        ({}, "plans.0.drop", [4, 8, 12, 16]),
        ({"layers": Layers(80)}, "plans.0.drop", [10, 20, 30, 40]),
        ({"layers": Layers(1)}, "plans.0.drop", [1]),
        ({"lacking": DropLists(tuple(range(24)))}, "plans.0.drop", [1, 2, 3, 4]),  # of the 8 that are left
        ({"lacking": DropLists(tuple(range(32)))}, "plans.0.strategy", "mlp"),
        ({}, "calibration", {"source": "demo:calibration.jsonl", "num_samples": 36, "seq_len": 2048}),
        ({"max_positions": 1000}, "calibration.seq_len", 512),
        ({"calibration_tokens": 20_000}, "calibration.seq_len", 512),  # 39 samples; of 1024 tokens only 19
        ({"calibration_tokens": 10_000_000}, "calibration.num_samples", 256),
        ({}, "evaluation.perplexity.0.seq_len", 1024),
        ({"needs_eager": True}, "model.attn_implementation", "eager"),
        ({"is_listed": False}, "model.allow_unlisted", True),
    ],
)
def test_what_the_model_decides(fields, path, value):
    found = parsed(**fields)
    for part in path.split("."):
        found = found[int(part) if part.isdigit() else part]
    assert found == value


def test_gemma_2_gets_its_own_attention(tmp_path):
    write_checkpoint(tmp_path / "gemma", "Gemma2ForCausalLM")
    output = tmp_path / "gemma.yaml"
    assert main(["init", str(tmp_path / "gemma"), "--output", str(output)]) == 0
    open_job(load_config(output, [STORE.format(tmp_path)]))


def test_a_file_that_exists_is_left_alone(llama, tmp_path, capsys):
    output = tmp_path / "mine.yaml"
    output.write_text("mine")
    assert main(["init", str(llama), "--output", str(output)]) == 2
    assert f"--output: {output} exists; give another name" in capsys.readouterr().err
    assert output.read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no/such/model", "no/such/model) is neither a folder"),
        ("{empty}", "config.json"),
        ("{unknown}", "knows no architecture NovelForCausalLM"),
    ],
)
def test_what_is_no_model_is_refused_and_nothing_written(model, message, llama, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    tiny_models.write_checkpoint(tmp_path / "unknown")
    edit_json(tmp_path / "unknown" / "config.json", architectures=["NovelForCausalLM"])
    assert main(["init", model.format(empty="empty", unknown="unknown")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.glob("*.yaml")) == []


def test_without_a_model_it_is_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    said = capsys.readouterr().out
    assert "drop-ray run demo.yaml --dry-run" in said
    assert "drop-ray init --example NAME" in said
    assert open_job(load_config("demo.yaml", [STORE.format(tmp_path)])).config.name == "demo"


@pytest.mark.parametrize("name", example_names())
def test_an_example_is_written_under_a_name_of_ones_own(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--example", name, "--output", "mine.yaml"]) == 0
    written, example = load_config("mine.yaml"), load_config(CONFIGS / f"{name}.yaml")
    assert written.name == "mine"
    assert written.model_copy(update={"name": name}) == example
    text = (tmp_path / "mine.yaml").read_text()
    assert "drop-ray run mine.yaml" in text
    assert "jobs/configs" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo:model", "--example", "demo"], "give a model or --example, not both"),
        (["--output", "no/such/demo.yaml"], "--output: no/such "),
    ],
)
def test_what_cannot_be_written_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["llama3_7b", "../examples/demo"])
def test_an_example_that_there_is_not_is_said(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["init", "--example", name])
    assert "choose from" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_name_that_no_run_can_have_is_refused(llama, tmp_path, capsys):
    assert main(["init", str(llama), "--output", str(tmp_path / "my run.yaml")]) == 2
    assert "the run is called 'my run', after the file" in capsys.readouterr().err
