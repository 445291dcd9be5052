"""Makes dropped checkpoints loadable by `AutoConfig` and the auto classes of models wherever drop_ray is imported."""

import functools
from typing import Any

from drop_ray.models.families import FAMILIES
from drop_ray.models.transformers_private import causal_architectures, find_configurations, multimodal_architectures

DROPPED = "dropped_"


def register() -> None:
    """Have the configuration of every family, listed or not, made when it is asked for.

    It registers its model when it is first loaded. The files of all families take seconds to import, and a program
    needs those of one.
    """
    find_configurations(_config_class)


@functools.cache
def _config_class(model_type: str) -> Any:
    """The dropped configuration class of a type such as `dropped_llama`; None for any other type."""
    if not model_type.startswith(DROPPED):
        return None
    # Not above: this file is imported with transformers, which may be in the middle of their imports.
    from drop_ray.models.classes import base_config_class
    from drop_ray.models.modeling_dropped import dropped_config_class

    kind = model_type.removeprefix(DROPPED)
    listed = {name: family.model_type for name, family in FAMILIES.items()}
    known = {**multimodal_architectures(), **causal_architectures(), **listed}
    names = [name for name, model_type in known.items() if model_type == kind]
    return dropped_config_class(base_config_class(names[0])) if names else None
