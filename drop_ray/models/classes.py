"""Finds the classes of an architecture by its name: those of transformers, or this package's where it has none."""

import importlib
from types import ModuleType
from typing import Any

import transformers

from drop_ray.errors import UserError
from drop_ray.models.families import FAMILIES
from drop_ray.models.modeling_dropped import dropped_class
from drop_ray.models.transformers_private import config_class_name


def base_config_class(architecture: str) -> Any:
    """The family's own configuration class. UserError if neither transformers nor drop_ray knows the architecture."""
    family = FAMILIES.get(architecture)
    if family:
        if name := config_class_name(family.model_type):
            return getattr(transformers, name)
        module = importlib.import_module(f"{__package__}.{family.configuration}")
        return getattr(module, f"{architecture.removesuffix('ForCausalLM')}Config")
    base = getattr(transformers, architecture, None)
    config_class = getattr(base, "config_class", None)
    if config_class is None:
        raise UserError(f"model.path: transformers {transformers.__version__} knows no architecture {architecture}")
    return config_class


def base_model_class(architecture: str) -> Any:
    """The class of the base model."""
    module = _modeling_module(architecture)
    return vars(module).get(architecture) or getattr(transformers, architecture)


def dropped_model_class(architecture: str) -> Any:
    """The class of the model without some of its sub-layers, for the base's `architecture`."""
    return dropped_class(f"Dropped{architecture}", _modeling_module(architecture).__name__)


def _modeling_module(architecture: str) -> ModuleType:
    family = FAMILIES.get(architecture)
    return importlib.import_module(f"{__package__}.{family.modeling if family else 'modeling_dropped'}")
