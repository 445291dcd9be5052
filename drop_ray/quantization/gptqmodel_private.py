"""The parts of gptqmodel outside its public interface that drop_ray uses or changes.

This module is imported only in processes that may import gptqmodel, those that quantize (gptqmodel_engine.py). The
fields and methods of a model's definition are in definition.py. tests/quantization/test_private_gptqmodel.py checks
every part of both, and names the version of gptqmodel that changed one.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from defuser.model_registry import MODEL_CONFIG
from gptqmodel.looper import loop_processor
from gptqmodel.models import auto, loader
from gptqmodel.utils import logger as gptqmodel_logger
from gptqmodel.utils import threadx
from gptqmodel.utils.device import get_device
from gptqmodel.utils.model import nested_move_to
from logbar import LogBar
from torch import nn

from drop_ray.replacing import replaced


def definition_of(model_type: str) -> type:
    """gptqmodel's own definition of a family. Expected of `MODEL_MAP`: definitions by model type."""
    definition: type = auto.MODEL_MAP[model_type]
    return definition


def tree_of(definition: type) -> Any:
    """The modules that a definition lists, in the notation of gptqmodel."""
    return definition.module_tree  # type: ignore[attr-defined]


def add_definition(model_type: str, definition: type) -> None:
    """Add a definition; gptqmodel has no call for it.

    Expected: loading refuses a model type that is not in `SUPPORTED_MODELS`, and looks others up in `MODEL_MAP`.
    """
    auto.MODEL_MAP[model_type] = definition
    if model_type not in auto.SUPPORTED_MODELS:
        auto.SUPPORTED_MODELS.append(model_type)


def split_experts(model_type: str) -> None:
    """Have Defuser split the stacked experts of a model type into linears, once such a model is made.

    Expected of `MODEL_CONFIG`: how, by model type; a type that is not in it stays as it is. Without further fields the
    layers keep their own classes; those that Defuser has in their place were written for another transformers.
    """
    MODEL_CONFIG[model_type] = {}


@contextmanager
def without_tokenizer() -> Iterator[None]:
    """A context in which a model is loaded without the tokenizer that its folder does not have.

    Samples are token ids, so that none is asked for anything. Expected: loading calls `load_hf_tokenizer`, and a model
    takes None for its tokenizer.
    """
    with replaced(loader, "load_hf_tokenizer", lambda *_, **__: None):
        yield


def moved(arguments: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The arguments with all tensors on that device.

    Expected of `nested_move_to(value, device)`: it moves the tensors in any dict, list or tuple.
    """
    on_device: dict[str, Any] = nested_move_to(arguments, device=device)
    return on_device


def device_of(module: nn.Module) -> torch.device:
    """The device of a layer, which gptqmodel loads and moves itself. Expected of `get_device(module)`: that device."""
    device: torch.device = get_device(module)
    return device


def report_layers(model: Any, report: Callable[[int], None]) -> None:
    """Call `report` with the number of every layer that is quantized.

    Expected of `layer_callback`: it is called twice for a layer, when the next one may begin, and when its weights are
    packed (`submodule_finalized`).
    """

    def layer_callback(*, layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:
            report(layer_idx)

    model.layer_callback = layer_callback


def quantization_log(model: Any) -> list[dict[str, Any]]:
    """What was done to each linear. Expected of `quant_log`: by linear, its `layer`, `module`, `loss` and `samples`.

    Samples are the tokens that met it. A linear that was rounded has `fallback` in its loss.
    """
    log: list[dict[str, Any]] = model.quant_log
    return log


@contextmanager
def contained(logs: Path) -> Iterator[None]:
    """A context in which gptqmodel behaves like a library; it has no settings for that.

    It shows no bars, prints only warnings and on standard error, and writes its log files to `logs` in place of the
    working directory. An error in one of its threads is raised and does not end the process.

    Expected: `_suppress_live_renderables()` says whether bars stay away; `_PROJECT_LOG_DIR` is the folder of log files;
    `_DeviceWorker._abort_process(error)` ends the process after the error was passed to the caller that waits.
    """
    LogBar.shared().setLevel(logging.WARNING)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(replaced(gptqmodel_logger, "_suppress_live_renderables", lambda: True))
        stack.enter_context(replaced(loop_processor, "_PROJECT_LOG_DIR", logs))
        stack.enter_context(replaced(threadx._DeviceWorker, "_abort_process", lambda worker, error: None))  # noqa: ARG005
        yield
