"""`drop-ray inspect`: the paper's figures from configurations alone, and what does not fit is refused."""

import json

import pytest
from tiny_models import COMMON, TRAITS, write_checkpoint

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.dropped import build_skeleton, parse_dtype, read_config
from drop_ray.models.families import DropLists
from drop_ray.planning.inspection import inspect_model

LARGE = {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80}
SMALL = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32}
PUBLISHED = {
    "Llama-2-70B": ("LlamaForCausalLM", {**LARGE, "vocab_size": 32000}, 32, 40, "68.98 B", "20.0 GiB -> 10.0 GiB"),
    "Llama-3-70B": ("LlamaForCausalLM", {**LARGE, "vocab_size": 128256}, 32, 40, "70.55 B", "20.0 GiB -> 10.0 GiB"),
    "Mistral-7B": ("MistralForCausalLM", {**SMALL, "vocab_size": 32000}, 64, 12, "7.24 B", "16.0 GiB -> 10.0 GiB"),
    "Llama-3-8B": ("LlamaForCausalLM", {**SMALL, "vocab_size": 128256}, 64, 12, "8.03 B", "16.0 GiB -> 10.0 GiB"),
}


def write_config(folder, architecture, **fields):
    config = {"architectures": [architecture], "torch_dtype": "bfloat16", "tie_word_embeddings": False, **fields}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_kv_figures_from_a_config_alone(name, tmp_path, capsys):
    architecture, fields, batch_size, num_dropped, parameters, kv_bytes = PUBLISHED[name]
    write_config(tmp_path, architecture, num_key_value_heads=8, sliding_window=None, **fields)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"drop_attn": list(range(num_dropped))}))
    assert main(["inspect", str(tmp_path), "--plan", str(plan), "--batch-size", str(batch_size)]) == 0
    output = capsys.readouterr().out
    assert f"KV cache for {batch_size} x 2048 tokens: {kv_bytes}" in output
    assert f"parameters  {parameters}, " in output
    assert f"without {num_dropped} attention layers and 0 MLPs" in output
    assert main(["inspect", str(tmp_path), "--plan", str(plan), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    left = (fields["num_hidden_layers"] - num_dropped) / fields["num_hidden_layers"]
    assert found["kv_bytes_per_token_left"] == left * found["kv_bytes_per_token"]
    assert found["drop_attn"] == list(range(num_dropped))


def size_of(architecture, **fields):
    config = base_config_class(architecture)(**{**COMMON, "num_hidden_layers": 4, **TRAITS[architecture], **fields})
    config.architectures = [architecture]
    return measure(build_skeleton(config, DropLists(), parse_dtype("float32")))


def test_a_windowed_layer_caches_its_window_at_most():
    size = size_of("Gemma3ForCausalLM")  # layer 1 sees everything, the others 16 tokens
    assert size.kv_bytes_per_token(DropLists()) == 4 * (2 * 2 * 16 * 4)
    assert size.kv_bytes(DropLists(), 10) == 10 * 4 * 256
    assert size.kv_bytes(DropLists(), 100) == (100 + 3 * 16) * 256
    assert size.kv_bytes(DropLists((1,), ()), 100) == 3 * 16 * 256
    assert size.kv_bytes(DropLists((0, 2), ()), 100) == (100 + 16) * 256


def test_latent_attention_caches_the_compressed_vector_and_the_rotary_key():
    assert size_of("DeepseekV3ForCausalLM").kv_bytes_per_token(DropLists()) == 4 * (16 + 8) * 4


def test_a_token_meets_only_the_experts_it_is_routed_to():
    size = size_of("MixtralForCausalLM")
    expert = 3 * 32 * 64
    assert size.mlp_parameters[0] - size.active_mlp_parameters[0] == (4 - 2) * expert
    dense = size_of("LlamaForCausalLM")
    assert dense.active_mlp_parameters == dense.mlp_parameters


def test_sizes_agree_with_the_tensors_of_a_checkpoint(family_folder):
    checkpoint = open_checkpoint(family_folder)
    skeleton = build_skeleton(read_config(checkpoint), DropLists(), parse_dtype("float32"))
    size = measure(skeleton)
    # Buffers are no parameters: they are not trained by gradients, as the expert bias of DeepSeek-V3.
    buffers = skeleton.state_dict().keys() - dict(skeleton.named_parameters(remove_duplicate=False)).keys()
    counted = sum(skeleton.state_dict()[name].numel() for name in buffers)
    assert size.parameters + counted == sum(tensor.num_bytes for tensor in checkpoint.tensors.values()) // 4
    assert size.outside_parameters + sum(size.attention_parameters) + sum(size.mlp_parameters) == size.parameters


def test_an_index_of_another_model_is_refused(tmp_path):
    write_checkpoint(tmp_path)
    for shard in tmp_path.glob("*.safetensors"):
        shard.unlink()  # no weights are read
    assert any(line.startswith("index ") for line in inspect_model(str(tmp_path)).lines())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(UserError, match=r"index.json lacks model.layers.4.* is it the index of this config.json"):
        inspect_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"names model.layers.3.*, which has no place in the model"):
        inspect_model(str(tmp_path))


def test_a_plan_that_does_not_fit_the_model_is_refused(tmp_path, capsys):
    write_config(tmp_path, "LlamaForCausalLM", **{**COMMON, "num_hidden_layers": 4})
    (tmp_path / "plan.json").write_text('{"drop_attn": [4]}')
    assert main(["inspect", str(tmp_path), "--plan", str(tmp_path / "plan.json")]) == 2
    assert "drop_attn names layer 4, but the model has layers 0 to 3" in capsys.readouterr().err
