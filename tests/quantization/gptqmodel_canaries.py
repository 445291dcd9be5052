"""The private parts of gptqmodel that drop_ray/quantization/ stands on; run apart by test_private_gptqmodel.py."""

import inspect
from functools import partial
from types import SimpleNamespace

import torch
from canaries import canary, check_parameters, equal, report

gptqmodel = partial(canary, "GPTQModel")
BASE = "gptqmodel.models.base:BaseQModel"


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


def check_methods_of_a_definition():
    with gptqmodel(f"{BASE}.prepare_dataset") as prepare:
        check_parameters(prepare, "self", "calibration_dataset")
        equal("calibration_data_min_length" in inspect.signature(prepare).parameters, True)
    with gptqmodel(f"{BASE}.prepare_layer_replay_kwargs") as replay:
        check_parameters(replay, "self", "layer", "layer_input", "additional_inputs", "target_device")
    with gptqmodel(f"{BASE}.awq_get_modules_for_scaling") as scaling:
        check_parameters(scaling, "self", "module", "input_feat", "module_kwargs")


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
