"""Makes dropped checkpoints loadable by `AutoConfig` and `AutoModelForCausalLM` wherever drop_ray is imported."""

from transformers import AutoConfig

from drop_ray.models.classes import base_config_class
from drop_ray.models.families import FAMILIES
from drop_ray.models.modeling_dropped import dropped_config_class


def register() -> None:
    """Register the configuration of every family. A configuration registers its model when it is first loaded.

    The models are not registered here because the modeling files of all families take seconds to import, and a program
    needs those of one.
    """
    for architecture in FAMILIES:
        config_class = dropped_config_class(base_config_class(architecture))
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
