"""What vLLM loads in each of its processes, by the entry point `vllm.general_plugins`.

It adds the dropped architectures to vLLM's registry, and leaves every other model as it is.
"""

import logging

from drop_ray.models.families import FAMILIES

# The version whose internals vllm_models.py was written for.
VLLM_VERSION = "0.32"

logger = logging.getLogger(__name__)


def register() -> None:
    """Register the dropped models of all families; called again, it changes nothing."""
    import vllm

    for architecture in FAMILIES:
        # By name: the classes are made in the processes that build such a model, and in no other.
        dropped = f"Dropped{architecture}"
        vllm.ModelRegistry.register_model(dropped, f"drop_ray.serving.vllm_models:{dropped}")
    mismatch = version_mismatch(vllm.__version__)
    if mismatch:  # Not raised, which would stop vLLM for every other model; importing vllm_models raises it.
        logger.error("%s; until then dropped models are refused", mismatch)
        return
    from drop_ray.serving.vllm_models import install

    install()


def version_mismatch(version: str) -> str | None:
    """None if this package fits that version of vLLM, else what to say about it, with the remedy."""
    if version.startswith(f"{VLLM_VERSION}."):
        return None
    return f"drop_ray serves with vLLM {VLLM_VERSION}, this is {version}: pip install 'vllm=={VLLM_VERSION}.*'"
