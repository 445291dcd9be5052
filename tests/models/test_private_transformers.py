"""The private parts of transformers: of transformers_private.py, and of the files that lie beside checkpoints."""

from functools import partial

import pytest
import torch
from canaries import canary, check_parameters
from tiny_models import make_model
from transformers import (
    AutoModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from drop_ray.models.registration import register
from drop_ray.models.tensor_map import map_tensors

transformers = partial(canary, "transformers")
LOADING, MAPPING = "transformers.core_model_loading", "transformers.conversion_mapping"
MODEL, CONFIG = "transformers:PreTrainedModel", "transformers:PreTrainedConfig"
SMALL = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def mixture():
    return make_model("Qwen3MoeForCausalLM", num_layers=1)


def test_names_of_configuration_classes_by_model_type():
    with transformers("transformers.models.auto.configuration_auto:CONFIG_MAPPING_NAMES") as names:
        assert (names["llama"], names.get("deepseek")) == ("LlamaConfig", None)


def test_names_of_model_classes_by_model_type():
    with transformers("transformers.models.auto.modeling_auto:MODEL_FOR_CAUSAL_LM_MAPPING_NAMES") as names:
        assert (names["llama"], names.get("deepseek")) == ("LlamaForCausalLM", None)


def test_classes_that_read_images_and_text_by_model_type():
    with transformers("transformers.models.auto.modeling_auto:MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES") as names:
        assert (names["gemma3"], names.get("llama")) == ("Gemma3ForConditionalGeneration", None)


def test_a_wrapper_finds_its_decoders_class_by_that_of_its_text_config():
    with transformers("transformers:MODEL_MAPPING") as mapping:
        assert mapping[LlamaConfig] is LlamaModel
        made = type("InnerLlamaConfig", (LlamaConfig,), {})
        mapping.register(made, LlamaModel, exist_ok=True)
        with torch.device("meta"):
            assert type(AutoModel.from_config(made(**SMALL))) is LlamaModel


def test_a_wrapper_knows_its_decoder():
    with transformers(f"{MODEL}.get_decoder"), torch.device("meta"):
        config = LlavaConfig(text_config=LlamaConfig(**SMALL), vision_config=SiglipVisionConfig(num_hidden_layers=1))
        assert type(LlavaForConditionalGeneration(config).get_decoder()) is LlamaModel
        assert config.get_text_config() is config.text_config


def test_the_types_of_layers_are_found_where_a_config_does_not_list_them():
    with transformers("transformers.cache_utils:get_layer_types_and_kwargs") as layer_types:
        check_parameters(layer_types, "config")
        config = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=1)
        assert layer_types(config)[0] == ["full_attention", "sliding_attention"]
        assert layer_types(LlamaConfig(**SMALL))[0] == ["full_attention"] * 2


def test_a_cache_is_made_from_the_decoders_configuration():
    with transformers(f"{CONFIG}.get_text_config") as get_text_config:
        check_parameters(get_text_config, "self", "decoder", "encoder")
    with transformers("transformers:DynamicCache") as cache:
        asked = []

        class Config(LlamaConfig):
            def get_text_config(self, decoder=None, encoder=None):
                asked.append(decoder)
                return super().get_text_config(decoder=decoder, encoder=encoder)

        assert len(cache(config=Config(**SMALL)).layers) == 2
        assert True in asked


def test_registered_configurations_are_looked_up_in_a_dict_of_their_own():
    register()
    with transformers("transformers.models.auto.configuration_auto:CONFIG_MAPPING") as mapping:
        assert isinstance(mapping._extra_content, dict)
        assert "dropped_phi" in mapping
        assert mapping["dropped_phi"].model_type == "dropped_phi"
        assert "dropped_novel" not in mapping


def test_a_class_says_whether_it_has_sdpa():
    with transformers("transformers:LlamaForCausalLM._supports_sdpa") as has_sdpa:
        assert has_sdpa is True


def test_infinities_of_a_config_json_are_objects():
    tagged, plain = {"limit": [0.0, {"__float__": "Infinity"}]}, {"limit": [0.0, float("inf")]}
    with transformers(f"{CONFIG}._decode_special_floats") as decode:
        assert decode(tagged) == plain
    with transformers(f"{CONFIG}._encode_special_floats") as encode:
        assert encode(plain) == tagged


def test_the_attention_of_a_configuration_is_its_models():
    with transformers(f"{CONFIG}._attn_implementation"):
        config = LlamaConfig(**SMALL)
        config._attn_implementation = "eager"
        assert LlamaForCausalLM(config).config._attn_implementation == "eager"


def test_a_model_of_a_class_from_a_configuration():
    with transformers(f"{MODEL}._from_config") as from_config:
        check_parameters(from_config, "config")
        model = LlamaForCausalLM._from_config(LlamaConfig(**SMALL), dtype=torch.bfloat16)
        assert type(model) is LlamaForCausalLM
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_tensors_that_keep_a_dtype_of_their_own():
    with transformers("transformers:DeepseekV3ForCausalLM._get_dtype_plan") as dtype_plan:
        check_parameters(dtype_plan, "self", "dtype")
        with torch.device("meta"):
            model = DeepseekV3ForCausalLM(DeepseekV3Config(**SMALL))
        assert model._get_dtype_plan(torch.bfloat16) == {"e_score_correction_bias": torch.float32}


def test_tied_tensors_by_name():
    with transformers(MODEL), torch.device("meta"):
        for is_tied in (True, False):
            model = LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=is_tied))
            assert set(model.all_tied_weights_keys) == ({"lm_head.weight"} if is_tied else set())


def test_unexpected_tensors_that_a_class_passes_over(tmp_path):
    with transformers(f"{MODEL}._keys_to_ignore_on_load_unexpected"):

        class Careless(LlamaForCausalLM):
            def __init__(self, config):
                super().__init__(config)
                self._keys_to_ignore_on_load_unexpected = {r"layers\.1\."}

        LlamaForCausalLM(LlamaConfig(**SMALL)).save_pretrained(tmp_path)
        config = LlamaConfig(**{**SMALL, "num_hidden_layers": 1})
        _, report = Careless.from_pretrained(tmp_path, config=config, output_loading_info=True)
        assert not any(report.values())


def test_the_conversions_of_a_model(mixture):
    with (
        transformers(f"{MAPPING}:get_model_conversion_mapping") as mapping,
        transformers(f"{LOADING}:WeightConverter") as converter,
        transformers(f"{LOADING}:WeightRenaming") as renaming,
    ):
        check_parameters(mapping, "model")
        entries = mapping(mixture)
        assert {type(entry) for entry in entries} <= {converter, renaming}
        assert [entry for entry in entries if isinstance(entry, converter)]


def test_a_name_is_renamed_and_given_its_prefix(mixture):
    with transformers(f"{LOADING}:rename_source_key") as rename:
        names = ["source_key", "weight_renamings", "weight_converters", "base_model_prefix", "meta_state_dict"]
        check_parameters(rename, *names)
        expected = mixture.state_dict(keep_vars=True)
        assert rename("norm.weight", [], [], "model", expected) == ("model.norm.weight", None)
        assert rename("model.norm.weight", [], [], "model", expected) == ("model.norm.weight", None)
        assert rename("strange.weight", [], [], "model", expected) == ("strange.weight", None)


def test_a_converter_makes_one_tensor_of_many(mixture):
    with (
        transformers(f"{LOADING}:WeightConverter.convert") as convert,
        transformers(f"{LOADING}:WeightConverter.add_tensor") as add_tensor,
    ):
        check_parameters(convert, "self", "layer_name", "model", "config")
        check_parameters(add_tensor, "self", "target_key", "source_key", "source_pattern", "future")
        names = [f"model.layers.0.mlp.experts.{expert}.down_proj.weight" for expert in (10, 2, 0)]
        [recipe] = map_tensors(mixture, names).recipes.values()
        made = recipe.make({name: torch.full((3, 2), float(name.split(".")[5])) for name in names}, mixture)
        assert {name: tensor[:, 0, 0].tolist() for name, tensor in made.items()} == {
            "model.layers.0.mlp.experts.down_proj": [0.0, 2.0, 10.0]
        }


def test_numbers_in_names_are_sorted_by_value():
    with transformers(f"{LOADING}:dot_natural_key") as key:
        check_parameters(key, "s")
        assert sorted(["a.10.x", "a.9.x", "a.b"], key=key) == ["a.9.x", "a.10.x", "a.b"]


def test_conversions_are_kept_by_model_type():
    with (
        transformers(f"{MAPPING}:get_checkpoint_conversion_mapping") as conversions,
        transformers(f"{MAPPING}:register_checkpoint_conversion_mapping") as register,
    ):
        check_parameters(conversions, "model_type")
        check_parameters(register, "model_type_or_class_name", "mapping", "overwrite")
        assert conversions("qwen2_moe")
        assert not conversions("llama")
        register("drop_ray_canary", conversions("qwen2_moe"), overwrite=True)
        assert len(conversions("drop_ray_canary")) == len(conversions("qwen2_moe"))


def test_classes_write_the_names_of_their_files():
    for name in ("PreTrainedConfig", "PreTrainedModel"):
        with transformers(f"transformers:{name}.register_for_auto_class") as register:
            check_parameters(register, *(["auto_class"] if name == "PreTrainedConfig" else []))


@pytest.mark.parametrize("name", ["DeepseekV2Experts", "DeepseekV2Moe", "DeepseekV2TopkRouter"])
def test_what_deepseek_v1_is_made_of(name):
    with transformers(f"transformers.models.deepseek_v2.modeling_deepseek_v2:{name}.__init__") as init:
        check_parameters(init, "self", "config")


def test_how_weights_are_initialized():
    with transformers("transformers.initialization:normal_") as normal:
        check_parameters(normal, "tensor", "mean", "std")
    with transformers("transformers:LlamaPreTrainedModel._init_weights") as init_weights:
        check_parameters(init_weights, "self", "module")
    with transformers("transformers:PreTrainedModel.is_custom_code") as is_custom_code:
        check_parameters(is_custom_code)


def test_the_merges_of_a_sentencepiece_model():
    with transformers("transformers.convert_slow_tokenizer:generate_merges") as merges:
        check_parameters(merges, "vocab", "vocab_scores", "skip_tokens")
        vocabulary = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "aba": 4}
        scores = {"a": -9.0, "b": -9.0, "ab": -1.0, "aba": -2.0}
        assert merges(vocabulary, scores, skip_tokens={"<s>"}) == [("a", "b"), ("ab", "a")]
