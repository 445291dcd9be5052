"""An application of Ray Serve: what a cluster lacks for it, and the demo served by one with a plan as its draft."""

import importlib.util
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from served import SETTINGS, post, serving
from tiny_models import token_ids

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.errors import UserError
from drop_ray.models.loading import load_model
from drop_ray.runtime import serve_application
from drop_ray.runtime.packaging import own_modules
from drop_ray.runtime.preflight import Node
from drop_ray.runtime.serve_application import check_cluster, missing_here
from drop_ray.serving.ray_application import MODULES, Application, Replicas

CPU_NODE, GPU_NODE = Node("c", "10.0.0.1", 4, 0), Node("g", "10.0.0.2", 8, 8)
ON_GPUS = Application({}, (), 4, Replicas(2, 4))
ON_CPUS = Application({}, (), 0, Replicas(2, 2, 2))
is_installed = all(importlib.util.find_spec(module) for module in MODULES)


@pytest.fixture
def alone_on(monkeypatch):
    """Ray as if it were of this one node."""

    class Context:
        def get_node_id(self):
            return GPU_NODE.node_id

    monkeypatch.setattr(ray, "get_runtime_context", Context)


@pytest.mark.parametrize(
    ("application", "message"),
    [
        (replace(ON_GPUS, replicas=Replicas(3, 3)), "3 x 4 GPUs are asked for, the cluster has 8"),
        (replace(ON_GPUS, gpus=16, replicas=Replicas(0, 1)), "1 x 16 GPUs"),
        (replace(ON_CPUS, replicas=Replicas(5, 5, 2)), "5 x 2 CPUs are asked for, the cluster has 8"),
    ],
)
def test_more_than_the_cluster_has_is_refused_with_the_remedies(alone_on, application, message):
    with pytest.raises(UserError, match=message) as caught:
        check_cluster(application, (GPU_NODE,))
    assert "give fewer --replicas" in str(caught.value)


def test_what_fits_is_not_refused(alone_on):
    for application in (ON_GPUS, ON_CPUS, replace(ON_GPUS, replicas=Replicas(0, 99))):
        check_cluster(application, (GPU_NODE,))


def test_a_node_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(serve_application, "find_spec", lambda name: None if name == "vllm" else name)
    assert missing_here([str(tmp_path)]) == ["lacks the Python package vllm; use an image with it"]
    monkeypatch.setattr(serve_application, "find_spec", lambda name: name)
    (fault,) = missing_here([str(tmp_path), str(tmp_path / "model")])
    assert f"has no folder {tmp_path / 'model'}; put it where all nodes see it" in fault
    assert missing_here([]) == []


def test_nodes_are_asked_but_those_without_a_gpu_are_not_when_replicas_need_some(local_ray, tmp_path):
    (node,) = serve_application.alive_nodes()
    asked = replace(node, address="asked", gpus=8.0)
    absent = Application({}, (str(tmp_path / "model"),), 1, Replicas())
    with pytest.raises(UserError) as caught:
        check_cluster(absent, (asked, replace(node, address="not asked"), CPU_NODE))
    assert {line.split()[1] for line in str(caught.value).splitlines()} == {"asked"}
    assert "has no folder" in str(caught.value)


def test_the_modules_that_a_cluster_gets_name_the_plugin():
    code, names = own_modules()
    assert code.endswith("/drop_ray")
    assert "drop_ray.serving.plugin:register" in Path(names, "entry_points.txt").read_text()


@pytest.mark.alone
@pytest.mark.full
@pytest.mark.skipif(not is_installed, reason="needs pip install 'drop-ray[gpu,ray-serve]'")
def test_the_demo_with_a_draft_answers_with_its_own_greedy_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    base = DEMO_FOLDER / "model"
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"drop_attn": [11, 7, 2, 10]}))
    prompt = token_ids(1, 20)
    model = load_model(base, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    expected = model.generate(prompt, max_new_tokens=24, do_sample=False)[0, 20:].tolist()
    command = ["serve", str(base), "--ray", "--draft", str(plan), "--", *SETTINGS]
    with serving(command, tmp_path, lambda url, log: f"serving at {url}/v1" in log.read_text()) as (url, server, log):
        answer = post(
            f"{url}/v1/completions",
            **{"model": str(base), "prompt": prompt[0].tolist(), "max_tokens": 24},
            **{"temperature": 0, "ignore_eos": True, "return_token_ids": True},
        )
        assert answer["choices"][0]["token_ids"] == expected
        assert "Draft model KV cache" in log.read_text()
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=120) == 0, log.read_text()[-3000:]
