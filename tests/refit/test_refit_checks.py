"""What cannot be refitted is refused by its skeleton."""

import pytest
import tiny_models

from drop_ray.errors import UserError
from drop_ray.models.dropped import decoder_layers
from drop_ray.refit.checks import check_refittable, widest_projection


def test_a_known_model_passes_and_its_widest_projection_is_found():
    model = tiny_models.make_model()
    check_refittable(model)
    assert widest_projection(model) == max(model.config.hidden_size, model.config.intermediate_size)


def test_a_model_whose_predictions_cannot_be_compared_is_refused():
    model = tiny_models.make_model()
    model.lm_head = None
    with pytest.raises(UserError, match="a LlamaForCausalLM has no output layer, .* leave out `refit`"):
        check_refittable(model)


def test_a_model_without_a_known_projection_is_refused():
    model = tiny_models.make_model()
    for layer in decoder_layers(model):
        del layer.self_attn.o_proj, layer.mlp.down_proj
    with pytest.raises(UserError, match="no output projection of a LlamaForCausalLM is known"):
        check_refittable(model)
