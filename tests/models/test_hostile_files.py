"""Anything at all in a model's files is a model or a UserError, and takes no time."""

import json
import os
import shutil
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.config_fields import check_fields
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import companion_files
from drop_ray.models.files.weight_files import read_index
from drop_ray.models.fitting import check_generation_config
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer

quick = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
        *("num_key_value_heads", "head_dim", "intermediate_size", "rope_scaling", "rope_parameters", "rope_theta"),
        *(
            "layer_types",
            "dtype",
            "torch_dtype",
            "hidden_act",
            "quantization_config",
            "drop_attn_list",
            "drop_mlp_list",
        ),
        *("tie_word_embeddings", "rms_norm_eps", "max_position_embeddings", "sliding_window", "use_cache"),
        *("pad_token_id", "eos_token_id", "text_config", "attention_bias", "per_layer_config"),
    ]
)
FILES = ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors.index.json"]
ENTRIES = st.fixed_dictionaries(
    {}, optional={"dtype": SCALARS | st.just("F32"), "shape": JSON, "data_offsets": JSON | st.just([0, 4])}
)


def kept(read):
    with suppress(UserError):
        read()


@pytest.fixture
def folder(llama_folder, tmp_path):
    return shutil.copytree(llama_folder, tmp_path / "model")


@quick
@given(st.dictionaries(FIELDS, JSON, min_size=1, max_size=2))
def test_any_field_of_config_json(llama_folder, fields):
    own = json.loads((llama_folder / "config.json").read_text())
    checkpoint = replace(open_checkpoint(llama_folder, weights=False), config={**own, **fields})

    def build():
        check_fields(checkpoint.config, "config.json")
        build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), torch.bfloat16)

    kept(build)


@quick
@given(JSON | st.binary(max_size=30))
def test_any_bytes_as_files_of_json(folder, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for name, read in {
        "config.json": lambda: open_checkpoint(folder, weights=False),
        "generation_config.json": lambda: check_generation_config(folder, "here"),
        "tokenizer_config.json": lambda: companion_files(folder),
    }.items():
        (folder / name).write_bytes(data)
        kept(read)
    (folder / "index.json").write_bytes(data)
    kept(lambda: read_index(folder / "index.json", "index.json"))
    (folder / "index.json").write_text(json.dumps({"weight_map": value if not isinstance(value, bytes) else {}}))
    kept(lambda: read_index(folder / "index.json", "index.json"))


@quick
@given(
    st.dictionaries(st.text(max_size=5), ENTRIES | JSON, max_size=2) | JSON | st.binary(max_size=20),
    st.binary(max_size=8),
)
def test_any_safetensors_header(tmp_path, llama_folder, value, data):
    shutil.copy(llama_folder / "config.json", tmp_path)
    header = value if isinstance(value, bytes) else json.dumps(value).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)

    def read():
        checkpoint = open_checkpoint(tmp_path)
        load_model(checkpoint)

    kept(read)


@quick
@given(st.binary(max_size=40), st.integers(0, 2000), st.booleans())
def test_any_damage_of_a_torch_file(tmp_path, llama_folder, data, place, is_cut):
    shutil.copy(llama_folder / "config.json", tmp_path)
    torch.save({"a": torch.zeros(3), "b": torch.ones(2, 2)}, tmp_path / "pytorch_model.bin")
    content = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(
        content[:place] + data + (b"" if is_cut else content[place + len(data) :])
    )
    kept(lambda: open_checkpoint(tmp_path))


@pytest.mark.parametrize("state", [[1], {1: torch.zeros(1)}, {"a": 5}, {"a": {"b": torch.zeros(1)}}], ids=str)
def test_a_torch_file_of_something_else_is_refused(tmp_path, llama_folder, state):
    shutil.copy(llama_folder / "config.json", tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="is not a mapping from names to tensors"):
        open_checkpoint(tmp_path)


@settings(quick, max_examples=20)
@given(JSON | st.binary(max_size=30))
def test_any_tokenizer_files(folder, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        kept(lambda: load_tokenizer(folder))
        (folder / name).write_bytes(before)


@pytest.mark.parametrize("text", ["{}", "[]", "", "[" * 5000, '{"model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_none_is_refused(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match="has no tokenizer that transformers can load"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors.index.json"]
)
def test_a_named_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)

    def use():
        checkpoint = open_checkpoint(folder)
        load_tokenizer(checkpoint.folder)
        export_checkpoint(checkpoint, DropLists((0,), ()), folder / "export")

    with pytest.raises(UserError):
        use()


@pytest.mark.parametrize("text", ["[" * 5000, '{"a": 1, "a": 2}', '{"rms_norm_eps": NaN}', b"\xff\xfe{}", "9" * 5000])
def test_a_config_that_json_or_we_do_not_take_is_refused_with_the_file(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"model.path: {Path(tmp_path)}/config.json: "):
        open_checkpoint(tmp_path)
