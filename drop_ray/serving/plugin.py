"""What vLLM loads in each of its processes, by the entry point `vllm.general_plugins`.

It adds the dropped architectures to vLLM's registry, and leaves every other model as it is.
"""

import logging

from drop_ray.models.families import FAMILIES
from drop_ray.serving.vllm_version import version_mismatch

logger = logging.getLogger(__name__)


def register() -> None:
    """Register the dropped models of all families. Called again, it changes nothing."""
    import vllm

    for architecture in FAMILIES:
        # Registered by name, so that classes are made only in the processes that build such a model.
        dropped = f"Dropped{architecture}"
        vllm.ModelRegistry.register_model(dropped, f"drop_ray.serving.vllm_models:{dropped}")
    mismatch = version_mismatch(vllm.__version__)
    if mismatch:  # An error here would stop vLLM for every other model. Importing vllm_models raises it.
        logger.error("%s; until then dropped models are refused", mismatch)
        return
    from drop_ray.serving.vllm_models import install

    install()
