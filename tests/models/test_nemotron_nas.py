"""`nemotron-nas` checkpoints say of each layer what it has, or are refused with the reason."""

import json
from dataclasses import replace

import pytest
from tiny_models import write_checkpoint
from transformers import AutoConfig

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import read_config
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.nemotron_nas import nemotron_nas_config, read_nemotron_nas

DROPS = DropLists((1, 2), (0, 2))


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForCausalLM"])
def test_each_layer_states_what_it_has(architecture, tmp_path):
    base = open_checkpoint(write_checkpoint(tmp_path / "base", architecture))
    export_checkpoint(base, DROPS, tmp_path / "nas", format="nemotron-nas")
    config = AutoConfig.from_pretrained(tmp_path / "nas", trust_remote_code=True)
    assert config.model_type == "nemotron-nas"
    assert [block.attention.no_op for block in config.block_configs] == [False, True, True, False]
    assert [block.ffn.no_op for block in config.block_configs] == [True, False, True, False]
    assert (config.block_configs[0].attention.n_heads_in_group, config.block_configs[1].ffn.intermediate_size) == (
        2,
        64,
    )
    assert not hasattr(config.block_configs[1].ffn, "ffn_mult")  # 64 is no multiple of 256
    absent = {"no_op": True, "n_heads_in_group": None, "replace_with_linear": False}
    assert json.loads(config.to_json_string())["block_configs"][1]["attention"] == absent
    export_checkpoint(base, DROPS, tmp_path / "dropped")
    nas, dropped = (open_checkpoint(tmp_path / name).tensors for name in ("nas", "dropped"))
    assert nas.keys() == dropped.keys()


@pytest.mark.parametrize(
    ("architecture", "fields", "drops", "reason"),
    [
        ("Gemma2ForCausalLM", {}, DropLists((1,)), "its layers are Llama's, and a Gemma2ForCausalLM has others"),
        ("MistralForCausalLM", {}, DropLists((1,)), "looks at all tokens, and this model's has a window"),
        ("LlamaForCausalLM", {}, DropLists((0,)), "attention of layer 0 must stay"),
    ],
)
def test_what_the_format_cannot_have_is_refused(architecture, fields, drops, reason, tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", architecture, **fields))
    with pytest.raises(UserError, match=reason):
        export_checkpoint(checkpoint, drops, tmp_path / "nas", format="nemotron-nas")
    assert not (tmp_path / "nas").exists()


def test_a_mistral_without_a_window_has_its_own_defaults_stated(tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", "MistralForCausalLM", sliding_window=None))
    fields = {name: value for name, value in checkpoint.config.items() if name not in ("rms_norm_eps", "head_dim")}
    made = nemotron_nas_config(replace(checkpoint, config=fields), DropLists((1,)))
    assert (made["rms_norm_eps"], made["head_dim"]) == (1e-6, 8)


@pytest.mark.parametrize(
    ("width", "hidden"), [(14336, 4096), (28672, 8192), (11008, 4096), (13824, 5120), (18944, 3584), (256, 3072)]
)
def test_the_width_of_an_mlp_is_stated_as_llama_cpp_and_vllm_reckon_it(width, hidden, tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", "LlamaForCausalLM"))
    fields = {**checkpoint.config, "intermediate_size": width, "hidden_size": hidden}
    ffn = nemotron_nas_config(replace(checkpoint, config=fields), DropLists((1,)))["block_configs"][0]["ffn"]
    reckoned = int(2 * ffn["ffn_mult"] * hidden / 3)
    assert reckoned + -reckoned % 256 == width == ffn["intermediate_size"]


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"intermediate_size": 512}, DROPS),
        ({"attention_bias": True, "mlp_bias": True}, DROPS),
        ({}, DropLists((1, 2, 3), (0, 1, 2, 3))),
    ],
)
def test_what_is_written_is_read_back(fields, lacking, tmp_path):
    base = open_checkpoint(write_checkpoint(tmp_path / "base", "LlamaForCausalLM", **fields))
    export_checkpoint(base, lacking, tmp_path / "nas", format="nemotron-nas")
    config, drops = read_nemotron_nas(tmp_path / "nas")
    expected = read_config(base)
    assert drops == lacking
    for name in (
        "intermediate_size",
        "num_key_value_heads",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "architectures",
    ):
        assert getattr(config, name) == getattr(expected, name)


def test_layers_of_several_widths_are_not_read(tmp_path):
    base = open_checkpoint(write_checkpoint(tmp_path / "base", "LlamaForCausalLM"))
    export_checkpoint(base, DROPS, tmp_path / "nas", format="nemotron-nas")
    path = tmp_path / "nas" / "config.json"
    fields = json.loads(path.read_text())
    fields["block_configs"][1]["ffn"]["intermediate_size"] = 128
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="layers of unequal intermediate_size: 64, 128"):
        read_nemotron_nas(tmp_path / "nas")
