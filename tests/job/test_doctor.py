"""`drop-ray doctor`: what is missing is said with what brings it, and what only other runs want is no fault."""

import json

import pytest

from drop_ray.cli import main
from drop_ray.config import parse_config
from drop_ray.stages import doctor
from drop_ray.stages.doctor import diagnose

RUN = {"name": "run", "model": {"path": "demo:model"}, "calibration": {"source": "demo:calibration.jsonl"}}


@pytest.fixture
def diagnosed(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def look(**sections):
        found = diagnose(parse_config({**RUN, "store": str(tmp_path / "store"), **sections}, "test"))
        return {finding.topic.split()[0]: finding for finding in found.findings}

    return look


def test_a_run_that_can_begin(diagnosed, tmp_path):
    found = diagnosed()
    assert {finding.state for finding in found.values()} <= {"ok", "-"}
    assert found["model"].text == "a LlamaForCausalLM"
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_what_a_run_lacks_is_said_with_what_brings_it(diagnosed, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "file").write_text("")
    found = diagnosed(model={"path": str(tmp_path / "nowhere")}, store=str(tmp_path / "file"))
    assert "start the cluster, or unset it" in found["Ray"].text
    assert "nowhere" in found["model"].text
    assert [found[topic].state for topic in ("Ray", "model", "store")] == ["missing"] * 3


def test_an_engine_is_missing_only_for_a_run_that_wants_it(diagnosed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert diagnosed()["gptqmodel"].state == "-"
    wanted = diagnosed(plans=[{"strategy": "attention", "drop": [1]}], quantization=[{"method": "gptq"}])["gptqmodel"]
    assert wanted.state == "missing"
    assert "pip install 'drop-ray[quantization]'" in wanted.text


def test_gpus_that_no_machine_has(diagnosed, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    wanted = {"gpus_per_worker": 1}
    assert diagnosed(execution=wanted)["GPUs"].state == "missing"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert diagnosed(execution=wanted)["GPUs"].state == "-"


def test_the_command_answers_for_programs_and_by_its_exit_code(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_well"]
    monkeypatch.setattr(doctor, "LIBRARIES", ("no-such-library",))
    assert main(["doctor"]) == 1
    assert "missing  pip install drop-ray" in " ".join(capsys.readouterr().out.split(" "))
