"""Which drafts are refused before any work."""

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists

FIELD = "serving.drafts"


def check_drafts(config: RunConfig, size: ModelSize, base_drops: DropLists, kv_budget: int | None, shards: int) -> None:
    """UserError, with the field and the remedy, if drafts cannot be measured as `serving.drafts` asks.

    size: of the base, in the dtype that it is served in; kv_budget: bytes of KV cache of each engine on each device;
    shards: devices that a token's KV cache is divided among.
    """
    serving, calibration = config.serving, config.calibration
    if serving is None or serving.drafts is None:
        return
    drafts = serving.drafts
    if serving.engine != "vllm":
        raise UserError(f"{FIELD}: only vllm lets a model draft for another; set serving.engine to it")
    if size.max_positions is not None and drafts.model_len > size.max_positions:
        raise UserError(
            f"{FIELD}: engines of {drafts.model_len} tokens are asked for, with room for drafted ones, and the model "
            f"has {size.max_positions} positions; give a shorter `prompt` or `output`"
        )
    pieces, wanted = calibration.num_samples * (calibration.seq_len // drafts.prompt), serving.pairs * drafts.batch_size
    if pieces < wanted:
        raise UserError(
            f"{FIELD}: {serving.pairs} pairs of {drafts.batch_size} prompts take {wanted} pieces of {drafts.prompt} "
            f"tokens, and the {calibration.num_samples} calibration samples have {pieces}; give shorter prompts, a "
            "smaller batch, or more samples"
        )
    needed = drafts.batch_size * 2 * size.kv_bytes(base_drops, drafts.model_len) // shards
    if kv_budget is not None and needed > kv_budget:
        raise UserError(
            f"serving.kv_cache_bytes: {drafts.batch_size} requests of {drafts.model_len} tokens need {needed} in base "
            f"and draft ({FIELD}), the budget is {kv_budget}"
        )
