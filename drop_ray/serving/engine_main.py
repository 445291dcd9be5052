"""What runs in an engine's process: it builds the engine that the settings ask for, then does what the pipe tells it.

python -m drop_ray.serving.engine_main FILE_DESCRIPTOR
"""

import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from drop_ray.serving.engine import EngineFailure, EngineSettings

# One process: no second one that polls, and metrics and workers within reach. vLLM reads them when it is imported.
VLLM_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def serve(pipe: Connection) -> None:
    """Answer each (method, arguments) until the pipe is closed. An error is sent back, and ends the engine."""
    try:
        engine = _build(pipe.recv())
        pipe.send(None)
        while True:
            try:
                method, arguments = pipe.recv()
            except (EOFError, OSError):
                return
            pipe.send(getattr(engine, method)(*arguments))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        pipe.send(EngineFailure(f"{type(error).__name__}: {error}"))
        sys.exit(1)


def _build(settings: EngineSettings) -> Any:
    if settings.kind == "vllm":
        os.environ.update(VLLM_ENVIRONMENT)
        if settings.evaluates:
            # For a place of the token that is predicted last, which the model may have no position for.
            os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
        from drop_ray.serving.vllm_engine import VllmEngine

        return VllmEngine(settings)
    if settings.kind == "transformers":
        from drop_ray.serving.transformers_engine import TransformersEngine

        return TransformersEngine(settings)
    from drop_ray.serving.reference import Reference

    return Reference(settings)


def _end_with_the_parent() -> None:
    """End this process when its parent is gone: a killed worker must not leave an engine with the device's memory."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    serve(Connection(int(sys.argv[1])))
