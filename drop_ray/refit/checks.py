"""Which models can be refitted, by their skeletons."""

from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.tracing import traits_of_model
from drop_ray.refit.sublayers import projections_of


def check_refittable(skeleton: PreTrainedModel) -> None:
    """UserError for a model without an output projection that is known, or without a head to compare predictions by."""
    name = type(skeleton).__name__.removeprefix("Dropped")
    if skeleton.get_output_embeddings() is None:
        raise UserError(
            f"refit: a {name} has no output layer, by which its predictions could be compared with the base's; leave "
            "out `refit`"
        )
    if not traits_of_model(skeleton).has_middle:
        raise UserError(
            f"refit: the layers of {name} add attention and MLP side by side, and refitting takes one after the other; "
            "leave out `refit`"
        )
    if not widest_projection(skeleton):
        raise UserError(f"refit: no output projection of a {name} is known; leave out `refit`")


def widest_projection(skeleton: PreTrainedModel) -> int:
    """Inputs of the widest output projection; 0 if there is none."""
    found = [linear for layer in decoder_layers(skeleton) for linear in projections_of(layer)]
    return max((linear.in_features for linear in found), default=0)
