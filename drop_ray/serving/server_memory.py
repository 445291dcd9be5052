"""How much memory vLLM's server takes, where its own default would not let it start on this machine.

On a CPU, vLLM 0.32 wants 92 % of all memory to be free, and takes it. Here it gets a KV cache of its own size: what is
left beside the weights, and no more than many requests need. On GPUs that other processes share, it is told of less.
"""

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize, measure
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.preflight import CPU_BLOCK
from drop_ray.text.units import human_bytes

# Of the process itself: libraries, buffers, activations.
RUNTIME_BYTES = 2 << 30
# The part of the free memory that the cache may take, and how many of the longest requests are enough, or how much.
FREE_PART, ENOUGH_REQUESTS, ENOUGH_BYTES = 0.75, 8, 4 << 30
# vLLM's own fraction of a GPU, and what is left free of one that others use.
FRACTION, SPARE, LEAST = 0.92, 0.02, 0.05
# Arguments, and a variable, by which the user says it.
GIVEN = ("--kv-cache-memory-bytes", "--gpu-memory-utilization", "--num-gpu-blocks-override")
CONTROL_GROUP = Path("/sys/fs/cgroup")
SPACE = "VLLM_CPU_KVCACHE_SPACE"
QUERY = ["nvidia-smi", "--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits"]


def memory_arguments(
    checkpoint: Checkpoint, arguments: Sequence[str], environment: Mapping[str, str], *, is_for_cpus: bool, drafts: bool
) -> list[str]:
    """What is added to the server's arguments. UserError if the checkpoint finds no room here."""
    if is_sized(arguments, environment):
        return []
    if not is_for_cpus:
        return gpu_arguments(free_gpus(environment))
    drops = drop_lists_of(checkpoint)
    size = measure(build_skeleton(read_config(checkpoint), drops, _dtype(arguments)))
    return cpu_arguments(size, drops, arguments, free_bytes(), drafts)


def is_sized(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the user says how much memory is taken, or spreads the model, so that nothing is added."""
    given = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    spread = {"--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp"}
    return SPACE in environment or bool({*GIVEN, *spread} & {*given})


def cpu_arguments(size: ModelSize, drops: DropLists, arguments: Sequence[str], free: int, drafts: bool) -> list[str]:
    """The size of the KV cache beside the weights in `free` bytes. UserError if no request of full length fits.

    drafts: whether a draft is served beside the model, which is at most as large.
    """
    copies = 2 if drafts else 1
    left = int(FREE_PART * (free - RUNTIME_BYTES - copies * size.kept_parameters(drops) * size.bytes_per_parameter))
    given = _value(arguments, "--max-model-len")
    # vLLM reads `auto` and `32k` too: `auto` fits itself to what is there.
    length = int(given) if given.isdigit() else CPU_BLOCK if given else size.max_positions or CPU_BLOCK
    needed = copies * size.kv_bytes(drops, -(-length // CPU_BLOCK) * CPU_BLOCK)
    if needed > left:
        per_token = max(1, copies * size.kv_bytes_per_token(drops))
        fitting = max(0, left) // per_token // CPU_BLOCK * CPU_BLOCK
        remedy = f"give -- --max-model-len {fitting}" if fitting else "free memory, or take a larger machine"
        raise UserError(
            f"a request of {length} tokens takes {human_bytes(needed)} of KV cache, and of {human_bytes(free)} free "
            f"here {human_bytes(max(0, left))} are left for it beside the weights; {remedy}"
        )
    return ["--kv-cache-memory-bytes", str(min(left, max(ENOUGH_BYTES, ENOUGH_REQUESTS * needed)))]


def gpu_arguments(free_and_total: Sequence[tuple[float, float]]) -> list[str]:
    """The fraction of each GPU's memory, where less than vLLM's own is free. UserError if next to nothing is."""
    free = min((free / total for free, total in free_and_total), default=1.0)
    if free >= FRACTION:
        return []
    if free < LEAST + SPARE:
        raise UserError(
            f"{free:.0%} of a GPU's memory is free: end what else runs there, or choose another by CUDA_VISIBLE_DEVICES"
        )
    return ["--gpu-memory-utilization", f"{free - SPARE:.2f}"]


def free_gpus(environment: Mapping[str, str]) -> list[tuple[float, float]]:
    """(free, total) of the GPU that a server on one GPU takes; empty if that cannot be asked."""
    try:
        rows = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
        found = {index: (float(free), float(total)) for index, free, total in (row.split(", ") for row in rows)}
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    # Where several are visible, the first is taken; names such as `GPU-1a2b` and parts of GPUs are left to vLLM.
    first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return [found[first]] if first in found else []


def free_bytes(group: Path = CONTROL_GROUP) -> int:
    """Bytes that are free on this machine, or in the container."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or no limit: `max`
        return free


def _dtype(arguments: Sequence[str]) -> torch.dtype:
    """That the server computes in: `auto`, which it takes by itself, makes 16 bits of 32."""
    given = _value(arguments, "--dtype")
    return torch.float32 if given in ("float", "float32") else torch.bfloat16


def _value(arguments: Sequence[str], name: str) -> str:
    """The value of an argument; empty if it is not given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, name.replace("-", "_").replace("__", "--", 1), dest="value", default="")
    given, _ = parser.parse_known_args(arguments)
    return str(given.value)
