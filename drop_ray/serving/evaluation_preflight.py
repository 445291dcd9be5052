"""Which evaluations by vLLM are refused before any work, and the engines that they get."""

from drop_ray.config import RunConfig
from drop_ray.errors import UserError
from drop_ray.models.accounting import ModelSize
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import read_config
from drop_ray.models.families import DropLists, architecture_of, is_refused_by_vllm
from drop_ray.serving.preflight import CPU_BLOCK, CPU_KV_BYTES, kv_shards
from drop_ray.serving.servable import check_head, check_on_cpu, check_vllm

# The gate's prompts with their continuations need this length.
MIN_LENGTH = 64
# Sequences that an engine has in work at a time.
MAX_BATCH = 256
FIELD = "evaluation.backend"
REMEDY = f"set {FIELD} to hf"


def evaluation_kv_bytes(config: RunConfig) -> int | None:
    """The KV budget of each engine on each device in bytes; None leaves it to vLLM."""
    return config.evaluation.kv_cache_bytes or (CPU_KV_BYTES if config.execution.device == "cpu" else None)


def engine_length(config: RunConfig, checkpoint: Checkpoint) -> int | None:
    """Tokens of a sequence at most: as for the hf backend, the length that config.json states, without its scaling."""
    stated: int | None = getattr(read_config(checkpoint), "max_position_embeddings", None)
    return config.evaluation.max_length or stated


def check_evaluation(config: RunConfig, checkpoint: Checkpoint, size: ModelSize, base_drops: DropLists) -> None:
    """UserError, with the field and the remedy, if vLLM cannot evaluate this checkpoint."""
    if config.evaluation.backend != "vllm":
        if config.evaluation.kv_cache_bytes is not None:
            raise UserError("evaluation.kv_cache_bytes: only vllm has such a cache; leave it out, or set the backend")
        return
    location, fields = checkpoint.location, checkpoint.config
    architecture = architecture_of(fields, location)
    if is_refused_by_vllm(architecture):
        raise UserError(f"{FIELD}: vllm is not taught {architecture} without layers; {REMEDY}")
    check_vllm(f"{FIELD}: vllm", f"; or {REMEDY}")
    check_head(fields, location, REMEDY)
    check_on_cpu(fields, location, f"evaluate this model on a GPU, or {REMEDY}")
    if "://" in location and not (location.startswith("s3://") and config.execution.cache_dir):
        raise UserError(
            f"{FIELD}: engines read local files; set execution.cache_dir, to which workers fetch a model on S3, or "
            f"copy {location} to a folder, and set model.path to it; or {REMEDY}"
        )
    max_length = engine_length(config, checkpoint)
    if max_length is None:
        raise UserError("evaluation.max_length: the model states no length; say how long a sequence may be")
    if max_length < MIN_LENGTH:
        raise UserError(f"evaluation.max_length: engines are checked on prompts, and need {MIN_LENGTH} at least")
    _check_budget(config, size, base_drops, max_length, kv_shards(fields, config.execution.tensor_parallel))


def _check_budget(config: RunConfig, size: ModelSize, base_drops: DropLists, max_length: int, shards: int) -> None:
    budget = evaluation_kv_bytes(config)
    if budget is None:
        return
    tokens = -(-(max_length + 1) // CPU_BLOCK) * CPU_BLOCK
    needed = size.kv_bytes(base_drops, tokens) // shards
    if needed > budget:
        raise UserError(
            f"evaluation.kv_cache_bytes: one sequence of {max_length} tokens needs {needed}, the budget is {budget}; "
            "raise it, or lower evaluation.max_length"
        )
