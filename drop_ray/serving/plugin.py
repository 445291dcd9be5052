"""What vLLM loads in each of its processes, by the entry point `vllm.general_plugins`.

It adds the dropped architectures to vLLM's registry, and leaves every other model as it is.
"""

import logging

from drop_ray.serving.vllm_version import version_mismatch

logger = logging.getLogger(__name__)
CAUSAL = "ForCausalLM"


def register() -> None:
    """Register the dropped models of all families, listed or not. Called again, it changes nothing."""
    # transformers first: importing it registers the dropped types, with the modules below.
    import transformers  # noqa: F401
    import vllm

    from drop_ray.models.families import FAMILIES
    from drop_ray.models.transformers_private import causal_architectures
    from drop_ray.serving.vllm_wrappers import SERVED_WRAPPERS

    known = [name for name in vllm.ModelRegistry.get_supported_archs() if name.endswith(CAUSAL)]
    all_names = (*known, *causal_architectures(), *FAMILIES, *SERVED_WRAPPERS)
    names = {name for name in all_names if not name.startswith("Dropped")}
    for architecture in sorted(names):
        # Registered by name, so that classes are made only in the processes that build such a model.
        dropped = f"Dropped{architecture}"
        vllm.ModelRegistry.register_model(dropped, f"drop_ray.serving.vllm_models:{dropped}")
    mismatch = version_mismatch(vllm.__version__)
    if mismatch:  # An error here would stop vLLM for every other model. Importing vllm_models raises it.
        logger.error("%s; until then dropped models are refused", mismatch)
        return
    from drop_ray.serving.vllm_models import install

    install(names)
