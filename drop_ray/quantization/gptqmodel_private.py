"""What drop_ray uses of gptqmodel that gptqmodel does not promise to keep, and what it changes in it.

Imported only where gptqmodel may be: in a process that quantizes (gptqmodel_engine.py). The fields and methods of a
model's definition are in definition.py. tests/quantization/test_private_gptqmodel.py checks every part of both, and
names the version of gptqmodel that changed one.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from gptqmodel.looper import loop_processor
from gptqmodel.models import auto
from gptqmodel.utils import logger as gptqmodel_logger
from gptqmodel.utils import threadx
from gptqmodel.utils.device import get_device
from gptqmodel.utils.model import nested_move_to
from logbar import LogBar
from torch import nn

from drop_ray.replacing import replaced


def definition_of(model_type: str) -> type:
    """gptqmodel's own definition of a family. Expected of `MODEL_MAP`: such classes by model type."""
    definition: type = auto.MODEL_MAP[model_type]
    return definition


def add_definition(model_type: str, definition: type) -> None:
    """There is no call to register one. Expected: loading looks a checkpoint's type up in `MODEL_MAP`, after it has
    refused what is not in `SUPPORTED_MODELS`."""
    auto.MODEL_MAP[model_type] = definition
    if model_type not in auto.SUPPORTED_MODELS:
        auto.SUPPORTED_MODELS.append(model_type)


def moved(arguments: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Expected of `nested_move_to(value, device)`: the tensors in any dict, list or tuple on that device."""
    on_device: dict[str, Any] = nested_move_to(arguments, device=device)
    return on_device


def device_of(module: nn.Module) -> torch.device:
    """Expected of `get_device(module)`: where gptqmodel has put a layer that it loads and moves itself."""
    device: torch.device = get_device(module)
    return device


def report_layers(model: Any, report: Callable[[int], None]) -> None:
    """Call `report` with the number of every layer that is quantized.

    Expected of `layer_callback`: it is told twice of a layer, when the next one may begin and when its weights are
    packed (`submodule_finalized`).
    """

    def layer_callback(*, layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:
            report(layer_idx)

    model.layer_callback = layer_callback


@contextmanager
def contained(logs: Path) -> Iterator[None]:
    """No bars, no lines but warnings and on standard error, log files in `logs` and not in the working directory; an
    error in one of its threads is raised, where gptqmodel would end the process. It has no settings for these.

    Expected: `_suppress_live_renderables()` says whether bars stay away; `_PROJECT_LOG_DIR` is the folder of log files;
    `_DeviceWorker._abort_process(error)` ends the process after the error was handed to whoever waits for the work.
    """
    LogBar.shared().setLevel(logging.WARNING)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(replaced(gptqmodel_logger, "_suppress_live_renderables", lambda: True))
        stack.enter_context(replaced(loop_processor, "_PROJECT_LOG_DIR", logs))
        stack.enter_context(replaced(threadx._DeviceWorker, "_abort_process", lambda worker, error: None))  # noqa: ARG005
        yield
