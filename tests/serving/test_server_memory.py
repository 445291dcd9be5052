"""How much memory a server is told to take: so that it starts where it is started, and no more than it needs."""

import pytest
import torch
from tiny_models import write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving import server_memory
from drop_ray.serving.server_memory import (
    ENOUGH_BYTES,
    FREE_PART,
    RUNTIME_BYTES,
    cpu_arguments,
    free_bytes,
    free_gpus,
    gpu_arguments,
    is_sized,
    memory_arguments,
)

NONE = DropLists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("model") / "llama"))


@pytest.fixture(scope="module")
def size(checkpoint):
    return measure(build_skeleton(read_config(checkpoint), NONE, torch.bfloat16))


def cache_bytes(arguments):
    option, value = arguments
    assert option == "--kv-cache-memory-bytes"
    return int(value)


def test_a_small_model_gets_enough_and_not_the_whole_machine(size):
    assert cache_bytes(cpu_arguments(size, NONE, [], 100 << 30, drafts=False)) == ENOUGH_BYTES


def test_on_a_small_machine_it_gets_a_part_of_what_is_left_beside_the_weights(size):
    free = RUNTIME_BYTES + (1 << 30)
    weights = size.parameters * 2
    assert cache_bytes(cpu_arguments(size, NONE, [], free, False)) == int(FREE_PART * ((1 << 30) - weights))
    assert cache_bytes(cpu_arguments(size, NONE, [], free, True)) == int(FREE_PART * ((1 << 30) - 2 * weights))


def test_where_no_whole_request_fits_the_length_that_does_is_said_and_then_it_starts(size):
    one = size.kv_bytes(NONE, 128)
    free = RUNTIME_BYTES + size.parameters * 2 + int(one * 1.5 / FREE_PART) + 1
    with pytest.raises(
        UserError, match=r"a request of 256 tokens takes .* of KV cache.*; give -- --max-model-len 128$"
    ):
        cpu_arguments(size, NONE, [], free, False)
    assert cache_bytes(cpu_arguments(size, NONE, ["--max-model-len=128"], free, False)) >= one
    assert cache_bytes(cpu_arguments(size, NONE, ["--max_model_len", "auto"], free, False)) >= one
    # What is dropped leaves room.
    dropped = DropLists(attn=(0, 1))
    assert cpu_arguments(size, dropped, [], free + size.kv_bytes(dropped, 256), False)


def test_where_nothing_fits_no_length_is_named(size):
    with pytest.raises(UserError, match="free memory, or take a larger machine"):
        cpu_arguments(size, NONE, [], RUNTIME_BYTES, False)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--kv-cache-memory-bytes=1"], {}),
        (["--kv_cache_memory_bytes", "1"], {}),
        (["--gpu-memory-utilization", "0.5"], {}),
        (["-tp", "2"], {}),
        ([], {"VLLM_CPU_KVCACHE_SPACE": "1"}),
    ],
)
def test_what_the_user_says_counts(checkpoint, arguments, environment):
    assert memory_arguments(checkpoint, arguments, environment, is_for_cpus=True, drafts=False) == []
    assert not is_sized(["--port", "1"], {})


@pytest.mark.parametrize(
    ("gpus", "arguments"),
    [
        ([], []),
        ([(78.0, 80.0)], []),
        ([(40.0, 80.0)], ["--gpu-memory-utilization", "0.48"]),
        ([(78.0, 80.0), (20.0, 80.0)], ["--gpu-memory-utilization", "0.23"]),
    ],
)
def test_a_gpu_that_others_use_is_not_wanted_whole(gpus, arguments):
    assert gpu_arguments(gpus) == arguments


def test_a_gpu_that_is_full_is_said():
    with pytest.raises(UserError, match="2% of a GPU's memory is free: end what else runs there"):
        gpu_arguments([(2.0, 100.0)])


@pytest.mark.parametrize(
    ("visible", "found"), [(None, [(70000.0, 80000.0)]), ("1,0", [(1.0, 2.0)]), ("GPU-1a2b", []), ("", [])]
)
def test_the_first_visible_gpu_is_asked(monkeypatch, tmp_path, visible, found):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0, 70000, 80000\\n1, 1, 2\\n'\n")
    program.chmod(0o755)
    monkeypatch.setattr(server_memory, "QUERY", [str(program)])
    assert free_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == found


def test_without_the_drivers_program_vllm_decides(monkeypatch):
    monkeypatch.setattr(server_memory, "QUERY", ["no-such-program"])
    assert free_gpus({}) == []


def test_a_container_has_what_its_limit_leaves(tmp_path):
    machine = free_bytes(tmp_path)
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(tmp_path) > machine / 2
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_bytes(tmp_path) == 400
