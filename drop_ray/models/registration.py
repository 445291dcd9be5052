"""Makes dropped checkpoints loadable by `AutoConfig` and `AutoModelForCausalLM` wherever drop_ray is imported."""

from transformers import AutoConfig

from drop_ray.models import modeling_dropped
from drop_ray.models.families import FAMILIES


def register() -> None:
    """Register the configuration of every family; a configuration registers its model when it is first loaded.

    Not both at once: the modeling files of all families take seconds to import, a program needs those of one.
    """
    for architecture in FAMILIES:
        config_class = getattr(modeling_dropped, f"Dropped{architecture.removesuffix('ForCausalLM')}Config")
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
