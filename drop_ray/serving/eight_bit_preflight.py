"""Which 8-bit floats in vLLM are refused before any work: in the KV cache, and of weights that are made at load."""

from collections.abc import Mapping
from typing import Any

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize
from drop_ray.models.quantized_base.kinds import FIELD

# `_get_attn_isa` of vLLM 0.32, in v1/attention/backends/cpu_attn.py.
CPU_HEAD_WIDTH = 32


def check_kv_cache(config: RunConfig, fields: Mapping[str, Any]) -> None:
    """UserError if the engine has no such KV cache for this model, whose config.json has these fields."""
    serving = config.serving
    if serving is None or serving.kv_cache_dtype == "auto":
        return
    field = "serving.kv_cache_dtype"
    if serving.engine != "vllm":
        raise UserError(f"{field}: only vllm keeps keys and values in {serving.kv_cache_dtype}; set it to auto")
    if fields.get("kv_lora_rank"):
        raise UserError(
            f"{field}: vLLM keeps what latent attention reads in {serving.kv_cache_dtype}, which its answers cannot be "
            "checked for here; set it to auto"
        )
    heads = fields.get("num_attention_heads")
    width = fields.get("head_dim") or (fields["hidden_size"] // heads if heads and "hidden_size" in fields else None)
    if config.execution.device == "cpu" and width and width % CPU_HEAD_WIDTH:
        raise UserError(
            f"{field}: on CPUs vLLM has it for heads of a multiple of {CPU_HEAD_WIDTH} numbers, and these have {width}"
            "; set it to auto"
        )


def check_at_load(config: RunConfig, fields: Mapping[str, Any], size: ModelSize) -> None:
    """UserError if vLLM cannot make 8-bit floats of this model while it loads it, or is not checked in that."""
    serving = config.serving
    if serving is None or not serving.fp8_at_load:
        return
    field = "serving.fp8_at_load"
    if serving.engine != "vllm":
        raise UserError(f"{field}: only vllm does it; set serving.engine to it")
    if config.serving_dtype == "float32":
        raise UserError(f"{field}: vLLM does it in 16 bits only; set serving.dtype to float16 or bfloat16")
    if fields.get(FIELD):
        raise UserError(f"{field}: the base is stored quantized already; leave it out")
    if size.active_mlp_parameters != size.mlp_parameters:
        raise UserError(f"{field}: experts are not checked in what vLLM makes of them; leave it out")
