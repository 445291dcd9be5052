"""The private parts of gptqmodel that drop_ray/quantization/ stands on; run apart by test_private_gptqmodel.py."""

import inspect
from functools import partial
from types import SimpleNamespace

import torch
from canaries import canary, check_parameters, equal, report

gptqmodel = partial(canary, "GPTQModel")
BASE = "gptqmodel.models.base:BaseQModel"
LOGGED = {
    "PROCESS_LOG_LAYER": "layer",
    "PROCESS_LOG_MODULE": "module",
    "QUANT_LOG_LOSS": "loss",
    "QUANT_LOG_NSAMPLES": "samples",
}


def check_definitions_are_found_by_model_type():
    with gptqmodel("gptqmodel.models.auto:MODEL_MAP") as definitions, gptqmodel(BASE) as base:
        equal(issubclass(definitions["llama"], base), True)
    with gptqmodel("gptqmodel.models.auto:SUPPORTED_MODELS") as types:
        equal((type(types), "llama" in types), (list, True))


def check_fields_of_a_definition():
    fields = {
        "module_tree": None,
        "layer_modules_strict": True,
        "awq_scale_optimize_shape_dependent_modules": None,
        "awq_preserve_explicit_position_embeddings": False,
        "shared_input_verified_model_types": frozenset(),
    }
    for name, default in fields.items():
        with gptqmodel(f"{BASE}.{name}") as found:
            equal(found, default)


def check_how_a_definition_writes_its_modules():
    with gptqmodel("gptqmodel.models.auto:MODEL_MAP") as definitions:
        *path, layer = definitions["llama"].module_tree
        equal(path, ["model", "layers", "#"])
        equal(layer["input_layernorm"], ("input_layernorm:!",))
        equal(layer["mlp"][-1].split(":")[:2], ["down_proj", "1"])


def check_experts_are_split_by_the_type_of_a_model():
    with canary("Defuser", "defuser.model_registry:MODEL_CONFIG") as types:
        equal((type(types), "deepseek_v3" in types), (dict, True))
    with canary("Defuser", "defuser.defuser:check_model_compatibility") as check:
        equal("MODEL_CONFIG" in check.__code__.co_names, True)
    with gptqmodel("gptqmodel.models.auto:MODEL_MAP") as definitions:
        equal(definitions["qwen3_moe"].dynamic_expert_index, "num_experts")
        equal(definitions["llama"].dynamic_expert_index, None)
        *_, layer = definitions["qwen3_moe"].module_tree
        equal(list(layer["mlp:moe:?"]["experts"]), ["#"])


def check_what_was_done_to_each_linear_is_logged():
    for name, key in LOGGED.items():
        with gptqmodel(f"gptqmodel.models.writer:{name}") as found:
            equal(found, key)
    with gptqmodel("gptqmodel.quantization.gptq:GPTQ._fallback_quantize") as rounding:
        equal(any("fallback(" in str(part) for part in rounding.__code__.co_consts), True)


def check_methods_of_a_definition():
    with gptqmodel(f"{BASE}.prepare_dataset") as prepare:
        check_parameters(prepare, "self", "calibration_dataset")
        equal("calibration_data_min_length" in inspect.signature(prepare).parameters, True)
    with gptqmodel(f"{BASE}.prepare_layer_replay_kwargs") as replay:
        check_parameters(replay, "self", "layer", "layer_input", "additional_inputs", "target_device")
    with gptqmodel(f"{BASE}.awq_get_modules_for_scaling") as scaling:
        check_parameters(scaling, "self", "module", "input_feat", "module_kwargs")


def check_a_model_is_loaded_with_the_tokenizer_of_its_folder():
    with gptqmodel("gptqmodel.models.loader:load_hf_tokenizer") as load:
        equal(callable(load), True)
    with gptqmodel(f"{BASE}.__init__") as made:
        equal(inspect.signature(made).parameters["tokenizer"].default, None)


def check_arguments_are_moved():
    with gptqmodel("gptqmodel.utils.model:nested_move_to") as move:
        check_parameters(move, "v", "device")
        moved = move({"pair": (torch.ones(1), None), "number": 3}, device=torch.device("meta"))
        equal((moved["pair"][0].device.type, moved["pair"][1], moved["number"]), ("meta", None, 3))
    with gptqmodel("gptqmodel.utils.device:get_device") as device:
        equal(device(torch.nn.Linear(1, 1, device="meta")).type, "meta")


def check_layers_are_reported_by_a_callback():
    with gptqmodel("gptqmodel.looper.module_looper:ModuleLooper") as looper_class:
        told = []
        looper = looper_class.__new__(looper_class)
        looper.gptq_model = SimpleNamespace(layer_callback=lambda **named: told.append(named))
        looper.callbackup(layer_idx=3, submodule_finalized=False)
        equal(told, [{"layer_idx": 3, "submodule_finalized": False}])


def check_bars_stay_away_where_a_function_says_so():
    with gptqmodel("gptqmodel.utils.logger:_suppress_live_renderables") as suppressed:
        check_parameters(suppressed)


def check_the_folder_of_log_files():
    with gptqmodel("gptqmodel.looper.loop_processor:_PROJECT_LOG_DIR") as folder:
        equal(str(folder), "logs")


def check_a_thread_ends_the_process_by_one_method():
    with gptqmodel("gptqmodel.utils.threadx:_DeviceWorker._abort_process") as abort:
        check_parameters(abort, "self", "exc")
    with gptqmodel("gptqmodel.utils.threadx:_DeviceWorker._run") as run:
        equal("_abort_process" in run.__code__.co_names, True)


def check_lines_are_logged_by_one_logger():
    with canary("LogBar", "logbar:LogBar.shared") as shared:
        equal(callable(shared().setLevel), True)


if __name__ == "__main__":
    report(globals())
