"""Which serving benchmarks are refused before any work, by their engine, the lengths of requests and the KV budget."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from drop_ray.config import RunConfig, ServingConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists, architecture_of, is_refused_by_vllm
from drop_ray.serving.draft_preflight import check_drafts
from drop_ray.serving.eight_bit_preflight import check_at_load, check_kv_cache
from drop_ray.serving.servable import check_head, check_vllm

# vLLM's own fraction of the memory is made for a device of its own, not for a machine's.
CPU_KV_BYTES = 1 << 30
# Tokens of a KV block of vLLM on a CPU, where blocks are largest.
CPU_BLOCK = 128


def kv_cache_bytes(config: RunConfig) -> int | None:
    """The KV budget of each engine in bytes; None leaves it to vLLM."""
    assert config.serving is not None
    default = CPU_KV_BYTES if config.execution.device == "cpu" else None
    return config.serving.kv_cache_bytes or default


def serving_size(config: RunConfig, size: ModelSize) -> ModelSize:
    """The model's size in the dtypes that it is served in."""
    item_size = {"float32": 4}.get(config.serving_dtype, 2)
    is_fp8 = config.serving is not None and config.serving.kv_cache_dtype != "auto"
    return replace(size, bytes_per_parameter=item_size, kv_number_bytes=1 if is_fp8 else None)


def kv_shards(fields: Mapping[str, Any], tensor_parallel: int) -> int:
    """The number of devices that a token's KV cache is divided among: each has whole heads, or all of latent attention.

    `fields` are those of the checkpoint's config.json.
    """
    heads = fields.get("num_key_value_heads") or fields.get("num_attention_heads") or fields["n_head"]  # of GPT-2
    return 1 if fields.get("kv_lora_rank") else min(tensor_parallel, heads)


def check_serving(
    config: RunConfig, location: str, fields: Mapping[str, Any], size: ModelSize, base_drops: DropLists
) -> None:
    """UserError, with the field and the remedy, if the benchmark cannot be run on this checkpoint.

    `location` and `fields` are the checkpoint's place and its config.json.
    """
    serving = config.serving
    if serving is None:
        return
    architecture = architecture_of(fields, location)
    if serving.engine == "vllm":
        if is_refused_by_vllm(architecture):
            raise UserError(f"serving.engine: vllm is not taught {architecture} without layers; set it to transformers")
        check_vllm()
        check_head(fields, location)
    elif fields.get("kv_lora_rank"):
        raise UserError(
            f"serving.engine: transformers keeps the keys and values of {architecture}'s latent attention in full, "
            "which says nothing of serving; set it to vllm"
        )
    if "://" in location and not (location.startswith("s3://") and config.execution.cache_dir):
        raise UserError(
            "serving: engines read local files; set execution.cache_dir, to which workers fetch a model on S3, or "
            f"copy {location} to a folder, and set model.path to it"
        )
    if size.max_positions is not None and serving.model_len > size.max_positions:
        raise UserError(
            f"serving.workloads: engines of {serving.model_len} tokens are asked for, the model has "
            f"{size.max_positions} positions; give shorter workloads"
        )
    check_kv_cache(config, fields)
    check_at_load(config, fields, size)
    shards = kv_shards(fields, config.execution.tensor_parallel)
    _check_budget(config, serving, size, base_drops, shards)
    check_drafts(config, serving_size(config, size), base_drops, kv_cache_bytes(config), shards)


def _check_budget(
    config: RunConfig, serving: ServingConfig, size: ModelSize, base_drops: DropLists, shards: int
) -> None:
    budget = kv_cache_bytes(config)
    if budget is None:
        if serving.mode == "resident":
            raise UserError(
                "serving.kv_cache_bytes: say what each of two resident engines may take of a GPU, or set serving.mode "
                "to reload"
            )
        return
    tokens = -(-serving.model_len // CPU_BLOCK) * CPU_BLOCK
    needed = serving_size(config, size).kv_bytes(base_drops, tokens) // shards
    if needed > budget:
        raise UserError(
            f"serving.kv_cache_bytes: one request of {serving.model_len} tokens needs {needed}, the budget is {budget}"
        )
