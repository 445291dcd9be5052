"""`drop-ray import`: the Llama that is written computes what Baichuan's own formulas do; what cannot be is refused."""

import json

import pytest
import torch
from checkpoint_forms import upload, write_form
from tiny_baichuan import config_of, make_state, reference_logits, write_baichuan
from tiny_models import edit_json, logits_of, make_model, token_ids, write_checkpoint
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, LlamaConfig

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.importing import baichuan
from drop_ray.importing import checkpoint as import_checkpoint
from drop_ray.importing.baichuan import as_llama
from drop_ray.importing.checkpoint import import_model
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model

IDS = token_ids(2, 24)
GENERATIONS = (1, 2)
FORMS = ("single bin", "sharded bin", "safetensors")


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=GENERATIONS)
def generation(request):
    return request.param


@pytest.fixture(scope="module")
def imported(generation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baichuan")
    import_model(str(write_baichuan(folder / "source", generation)), None, folder / "output")
    return folder / "output"


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_those_of_the_original_formulas(generation, form, tmp_path):
    config = config_of(generation)
    source = write_baichuan(tmp_path / "source", generation, form)
    import_model(str(source), None, tmp_path / "output")
    expected = reference_logits(make_state(config), config, IDS)
    assert_close(logits_of(load_model(tmp_path / "output"), IDS), expected)
    # Without this project, and without a word about missing or unexpected tensors.
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "output", output_loading_info=True)
    assert_close(logits_of(model, IDS), expected)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_the_head_is_normalized_for_baichuan_2_only(generation, imported):
    state = make_state(config_of(generation))
    head = state["lm_head.weight"]
    found = open_checkpoint(imported).read(["lm_head.weight", "model.embed_tokens.weight"])
    assert torch.equal(found["model.embed_tokens.weight"], state["model.embed_tokens.weight"])
    assert torch.equal(found["lm_head.weight"], normalize(head) if generation == 2 else head)


def test_the_imported_model_can_be_dropped_from(generation, imported):
    config = config_of(generation)
    expected = reference_logits(make_state(config), config, IDS, silent_attention=(1,), silent_mlp=(0,))
    assert_close(logits_of(load_model(imported, DropLists((1,), (0,))), IDS), expected)


def test_a_head_in_16_bits_is_normalized_in_float32_a_few_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(baichuan, "COPY_BYTES", 1000 * 16 * 4 + 5)
    config = config_of(2)
    state = make_state(config, torch.bfloat16)
    source = write_baichuan(tmp_path / "source", 2, state=state, torch_dtype="bfloat16")
    import_model(str(source), None, tmp_path / "output")
    checkpoint = open_checkpoint(tmp_path / "output")
    head = checkpoint.read(["lm_head.weight"])["lm_head.weight"]
    assert torch.equal(head, normalize(state["lm_head.weight"].float()).bfloat16())
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {"BF16"}
    assert load_model(checkpoint).dtype == torch.bfloat16


def test_a_llama_that_is_made_while_it_is_read_is_the_one_that_is_written(generation, imported, tmp_path):
    source = open_checkpoint(write_baichuan(tmp_path, generation))
    virtual = as_llama(source, source.folder)
    written = open_checkpoint(imported)
    assert virtual.tensors == written.tensors
    first, second = virtual.read(virtual.tensors), written.read(written.tensors)
    assert all(torch.equal(first[name], second[name]) for name in written.tensors)


def test_the_folder_is_a_llama_checkpoint_with_all_that_belongs_to_the_model(generation, imported):
    config = json.loads((imported / "config.json").read_text())
    expected = {key: value for key, value in config_of(generation).items() if key in LlamaConfig().to_dict()}
    expected |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 4}
    expected |= {"dtype": "float32", "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    expected |= {"drop_ray": {"imported_from": config_of(generation)["architectures"][0]}}
    assert expected.items() <= config.items()
    assert not {"auto_map", "z_loss_weight", "torch_dtype"} & config.keys()
    assert {path.name for path in imported.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
        *("README.md", "Community License for Baichuan2 Model.pdf"),
    }
    assert not [name for name in open_checkpoint(imported).tensors if "inv_freq" in name or "W_pack" in name]


def test_positions_are_counted_to_model_max_length_where_nothing_else_is_said(tmp_path):
    config = config_of(1, hidden_size=4096, model_max_length=4096)
    del config["max_position_embeddings"]
    assert baichuan.llama_config(config, "here")["max_position_embeddings"] == 4096


def test_an_import_from_s3_is_that_of_a_folder(tmp_path, s3_url):
    source = write_baichuan(tmp_path / "source", 1, "safetensors")
    upload(source, s3_url)
    import_model(str(source), None, tmp_path / "local")
    import_model(s3_url, None, tmp_path / "remote")
    local, remote = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("local", "remote"))
    assert local == remote


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40}, "13B.*ALiBi.*no equivalent"),
        ({"max_position_embeddings": None, "model_max_length": 4096}, "13B.*ALiBi.*no equivalent"),
        ({"alibi": True}, "13B.*ALiBi.*no equivalent"),
        ({"quantization_config": {"bits": 4}}, "quantized already; give its 16-bit"),
        ({"intermediate_size": None}, "config.json has no `intermediate_size`"),
        ({"tie_word_embeddings": True}, "ties its embeddings to a normalized head"),
        ({"num_hidden_layers": 4}, "tensors are missing, the first is model.layers.3"),
        ({"num_hidden_layers": 2}, "tensors have no place in the model, the first is model.layers.2"),
        ({"intermediate_size": 41}, r"mlp.down_proj.weight has shape \[16, 40\], config.json asks for \[16, 41\]"),
        ({"hidden_size": 12}, r"W_pack.weight has shape \[48, 16\], but q, k and v .* take \[36, 12\]"),
    ],
)
def test_what_has_no_llama_equivalent_or_does_not_fit_its_config_is_refused(tmp_path, fields, message):
    source = write_baichuan(tmp_path / "source", 2)
    edit_json(source / "config.json", **fields)
    with pytest.raises(UserError, match=message):
        import_model(str(source), None, tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.model"])
def test_what_configuration_and_tokenizer_tell_is_told_before_weights_are_downloaded(tmp_path, monkeypatch, broken):
    source = write_baichuan(tmp_path / "source", 2)
    (source / "tokenizer.model").unlink() if broken == "tokenizer.model" else edit_json(source / broken, alibi=True)
    asked = []

    def locate(path, revision, *, weights=True):
        asked.append((path, revision, weights))
        return str(source)

    monkeypatch.setattr(import_checkpoint, "locate_model", locate)
    with pytest.raises(UserError):
        import_model("baichuan-inc/Baichuan2-13B-Base", "v2.0", tmp_path / "output")
    assert asked == [("baichuan-inc/Baichuan2-13B-Base", "v2.0", False)]


@pytest.mark.parametrize("form", ["single bin", "sharded bin"])
def test_bin_files_of_a_supported_model_become_safetensors(form, tmp_path, capsys):
    source = write_form(tmp_path / "source", form, make_model())
    output = tmp_path / "output"
    assert main(["import", str(source), str(output)]) == 0
    assert f"model.path: {output}" in capsys.readouterr().out
    checkpoint = open_checkpoint(output)
    assert all(shard.file.endswith(".safetensors") for shard in checkpoint.shards)
    assert torch.equal(logits_of(load_model(checkpoint), IDS), logits_of(make_model(), IDS))
    config = json.loads((output / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert not {"drop_attn_list", "auto_map"} & config.keys()
    assert {"LICENSE", "tokenizer.json", "tokenizer_config.json"} <= {path.name for path in output.iterdir()}


def test_bin_files_with_drop_lists_stay_without_the_dropped_layers(tmp_path):
    source = write_form(tmp_path / "source", "single bin", make_model())
    edit_json(source / "config.json", drop_attn_list=[1], drop_mlp_list=[])
    import_model(str(source), None, tmp_path / "output")
    expected = logits_of(load_model(source), IDS)
    assert torch.equal(logits_of(load_model(tmp_path / "output"), IDS), expected)
    assert not [name for name in open_checkpoint(tmp_path / "output").tensors if "layers.1.self_attn" in name]


def test_what_needs_no_import_or_cannot_be_run_is_said_with_exit_code_2(tmp_path, capsys):
    source = write_checkpoint(tmp_path / "source")
    assert main(["import", str(source), str(tmp_path / "output")]) == 2
    assert f"{source} needs no import: use it as model.path" in capsys.readouterr().err
    edit_json(source / "config.json", architectures=["SolarForCausalLM"])
    assert main(["import", str(source), str(tmp_path / "output")]) == 2
    assert "Solar Pro is no model of transformers" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


def test_an_output_that_is_not_new_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path, tmp_path / "file"):
        assert main(["import", "nowhere", str(output)]) == 2
        assert f"{output} is a file, or is not empty; give a new folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_progress_is_told_in_bytes(tmp_path, caplog):
    source = write_baichuan(tmp_path / "source", 1, "sharded bin")
    with caplog.at_level("INFO", logger="drop_ray"):
        import_model(str(source), None, tmp_path / "output")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("import:")]
    assert lines[0].endswith("in 2 files to write")
    total = lines[-1].split(" of ")[1]
    assert lines[-1] == f"import: {total} of {total}"
    assert len(lines) == 3
