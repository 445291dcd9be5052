"""Checkpoints as they are on the hub: what loads is what plain transformers makes of it, what does not says why."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_json, logits_of, make_model, make_tokenizer, token_ids, write_checkpoint
from transformers import AutoModelForCausalLM, GenerationConfig

from drop_ray.errors import UserError
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.fitting import check_chat_template, check_generation_config, check_tokenizer
from drop_ray.models.loading import load_model

BLOCK = DropLists((1,), (1,))
FACTORS = [1.0, 1.5, 2.0, 2.5]
# Each with max_position_embeddings, and the length that the scaling gives it.
ROPES = {
    "linear": ({"type": "linear", "factor": 4.0}, 16, 64),
    "dynamic": ({"type": "dynamic", "factor": 2.0}, 32, 64),
    "yarn": ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 32, 64),
    "yarn that states its length": ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64, 64),
    "longrope": (
        {"type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS, "original_max_position_embeddings": 16},
        64,
        64,
    ),
    "llama3": (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        64,
        64,
    ),
    "none": (None, 64, 64),
}


@pytest.fixture
def llama(tmp_path):
    return write_checkpoint(tmp_path / "model", shard_size="1GB")


def size_of(folder):
    return measure(build_skeleton(read_config(open_checkpoint(folder)), DropLists(), torch.bfloat16))


@pytest.mark.parametrize("rope", ROPES)
def test_scaled_rope_is_taken_at_its_real_length(llama, rope, tmp_path):
    scaling, stated, real = ROPES[rope]
    fields = json.loads((llama / "config.json").read_text())
    del fields["rope_parameters"]
    fields |= {"rope_scaling": scaling, "rope_theta": 10000.0, "max_position_embeddings": stated}
    (llama / "config.json").write_text(json.dumps(fields))
    assert size_of(llama).max_positions == real
    ids = token_ids(2, real)
    right = logits_of(AutoModelForCausalLM.from_pretrained(llama), ids)
    assert torch.equal(logits_of(load_model(llama), ids), right)
    export_checkpoint(open_checkpoint(llama), BLOCK, tmp_path / "plain", format="plain")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert torch.equal(logits_of(exported, ids), logits_of(load_model(llama, BLOCK), ids))


def test_the_class_of_old_conversions_loads_and_is_exported_under_its_name_of_today(llama, tmp_path):
    right = logits_of(load_model(llama), token_ids(1, 16))
    edit_json(llama / "config.json", architectures=["LLaMAForCausalLM"])
    assert torch.equal(logits_of(load_model(llama), token_ids(1, 16)), right)
    export_checkpoint(open_checkpoint(llama), BLOCK, tmp_path / "plain", format="plain")
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


FIELDS = {
    "num_attention_heads": ("4", "num_attention_heads is '4', which is not a whole number from 1 to"),
    "layer_types": (["full_attention"] * 6, r"`num_hidden_layers` \(4\) must be equal to the number of `layer_types`"),
    "rope_scaling": ({"type": "su", "factor": 2.0}, "rope_scaling has the type su, which is called longrope now"),
    "rope_parameters": ({"rope_type": "spiral"}, "rope_parameters has the type 'spiral', and transformers"),
    "architectures": (["YiForCausalLM"], "is a YiForCausalLM; download its current revision"),
    "num_hidden_layers": (1000000000, "num_hidden_layers is 1000000000, which is not a whole number from 1 to 512"),
    "hidden_size": (-1, "hidden_size is -1, which is not a whole number from 1 to"),
    "vocab_size": (None, "field 'vocab_size' expected int, got NoneType"),
    "hidden_act": ("spiral", "config.json makes no LlamaForCausalLM: hidden_act is 'spiral': KeyError"),
    "dtype": ("float99", "dtype is 'float99', which is not the name of a type"),
    "quantization_config": ([], "quantization_config is \\[\\], which is not an object"),
    "intermediate_size": (96, r"has shape \[32, 64\], config.json asks for \[32, 96\] \(intermediate_size is 96\)"),
    "tie_word_embeddings": ("no", "tie_word_embeddings is 'no', which is not true or false"),
    "rms_norm_eps": (10**30, "rms_norm_eps is 10+, which is not a number that a tensor holds"),
    "pad_token_id": (300, "pad_token_id is 300: Padding_idx must be within"),
    "num_key_value_heads": (3, r"k_proj.weight has shape \[16, 32\], config.json asks for \[24, 32\]"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_makes_no_model_is_named(llama, field):
    value, message = FIELDS[field]
    edit_json(llama / "config.json", **{field: value})
    with pytest.raises(UserError, match=f"(?i){message}"):
        load_model(llama)


@pytest.mark.parametrize("architectures", ["LlamaForCausalLM", 5, [7]])
def test_architectures_are_a_list_of_names(llama, architectures):
    edit_json(llama / "config.json", architectures=architectures)
    with pytest.raises(UserError, match="architectures is .* which is not a list of names of classes"):
        open_checkpoint(llama)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [("base_model.model.", "a model with adapters of PEFT: save"), ("_orig_mod.", "a model of torch.compile: save")],
)
def test_a_wrapper_that_was_saved_is_named(llama, prefix, reason):
    file = llama / "model.safetensors"
    save_file({prefix + name: tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"its tensors, such as {prefix}lm_head.weight, are those of {reason}"):
        load_model(llama)


def test_a_generation_config_that_transformers_will_not_save_is_told(llama, caplog):
    caplog.set_level(logging.WARNING)
    (llama / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.9, "top_p": 0.6}')
    check_generation_config(llama, "here")
    assert "here/generation_config.json is exported as it is, and transformers will not save a model" in caplog.text
    with pytest.raises(ValueError, match="temperature"):
        GenerationConfig.from_pretrained(llama).save_pretrained(llama)


@pytest.mark.parametrize("text", ["[]", "{", '{"cache_implementation": {}}'])
def test_a_generation_config_that_is_none_is_refused(llama, text):
    (llama / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match="here/generation_config.json: "):
        check_generation_config(llama, "here")


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes():
    tokenizer = make_tokenizer()  # ids 0 to 257
    check_tokenizer(tokenizer, 258, "here")
    with pytest.raises(UserError, match=r"has ids up to 257 .* the model's embedding has 257 rows; give the model the"):
        check_tokenizer(tokenizer, 257, "here")


def test_an_added_token_without_a_row_is_told_unless_texts_end_with_it(caplog):
    caplog.set_level(logging.WARNING)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<image>"])
    check_tokenizer(tokenizer, 258, "here")
    assert "here: the model has no embedding for the token <image>; no text may hold it" in caplog.text
    tokenizer.eos_token = "<image>"
    with pytest.raises(UserError, match=r"has ids up to 258 \('eos_token'\)"):
        check_tokenizer(tokenizer, 258, "here")


@pytest.mark.parametrize(
    ("template", "message"), [(None, "has no chat template"), ("{% if %}", "fails"), ("{{ 1 / 0 }}", "fails")]
)
def test_a_chat_template_that_writes_nothing_is_refused(template, message):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    check_chat_template(tokenizer, "here")
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"evaluation.apply_chat_template: the .*chat template.*{message}|{message}"):
        check_chat_template(tokenizer, "here")


def test_the_same_model_whatever_its_dtype_field_says(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert torch.equal(logits_of(load_model(tmp_path), token_ids(1, 8)), logits_of(model, token_ids(1, 8)))


ROUTERS = {
    "num_experts_per_tok": (5, "num_experts_per_tok is 5, and n_routed_experts is 4; it is from 1 to as many"),
    "n_group": (3, "n_group is 3, and n_routed_experts is 4; groups are of equal size"),
    "topk_group": (3, "topk_group is 3, and n_group is 2; it is from 1 to as many"),
    "n_routed_experts": (4096, "num_hidden_layers is 64, with 4096 experts each; a model has up to 131072 experts"),
    "first_k_dense_replace": (None, "first_k_dense_replace is None: '>=' not supported"),
}


@pytest.mark.parametrize("field", ROUTERS)
def test_a_router_that_cannot_route_is_refused(tmp_path, field):
    folder = write_checkpoint(tmp_path, "DeepseekV3ForCausalLM")
    value, message = ROUTERS[field]
    others = {"num_hidden_layers": 64} if field == "n_routed_experts" else {}
    edit_json(folder / "config.json", **{field: value}, **others)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_windowed_layers_need_a_window(tmp_path):
    folder = write_checkpoint(tmp_path, "Gemma3ForCausalLM")
    edit_json(folder / "config.json", sliding_window=None)
    with pytest.raises(UserError, match="sliding_window is None, and layer_types has sliding_attention"):
        load_model(folder)


@pytest.mark.parametrize("limit", [{"__float__": "Infinity"}, float("inf")], ids=["transformers 5", "a bare word"])
def test_infinities_are_read_as_transformers_writes_them_and_exported_as_they_stand(llama, tmp_path, limit):
    """Falcon-H1, Granite 4 and Nemotron-H have them in `time_step_limit`."""
    text = json.dumps({**json.loads((llama / "config.json").read_text()), "time_step_limit": [0.0, limit]})
    (llama / "config.json").write_text(text)
    checkpoint = open_checkpoint(llama)
    assert read_config(checkpoint).time_step_limit == [0.0, float("inf")]
    export_checkpoint(checkpoint, BLOCK, tmp_path / "out")
    assert json.dumps([0.0, limit]) in json.dumps(json.loads((tmp_path / "out" / "config.json").read_text()))
    assert checkpoint.identity != open_checkpoint(write_checkpoint(tmp_path / "other")).identity


def test_an_infinity_is_one_model_however_it_is_spelled(llama):
    spellings = []
    for limit in ({"__float__": "Infinity"}, float("inf")):
        edit_json(llama / "config.json", time_step_limit=[0.0, limit])
        spellings.append(open_checkpoint(llama).identity)
    assert spellings[0] == spellings[1]


def test_not_a_number_is_refused_with_its_place(llama):
    edit_json(llama / "config.json", time_step_limit=[0.0, float("nan")])
    with pytest.raises(UserError, match=r"config.json: time_step_limit.1 is nan, which is not a number"):
        open_checkpoint(llama)
