"""What a sub-layer adds, seen from its projection: with a norm behind it, without, and where it is something else."""

import pytest
import tiny_models
import torch
from torch import nn

from drop_ray.errors import UserError
from drop_ray.models.dropped import decoder_layers
from drop_ray.refit.order import SubLayer
from drop_ray.refit.output import Output, output_of
from drop_ray.refit.sublayers import alone, projection_of, recorded

MLP = SubLayer(1, 2)


def called(layer, state):
    """(projection, its inputs, the update) of an MLP."""
    _, projection = projection_of(layer, "mlp")
    with torch.no_grad(), alone(layer, "mlp"), recorded(projection) as seen:
        update = (layer(state) - state).flatten(0, 1)
    return projection, seen[0].flatten(0, 1), update


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Olmo2ForCausalLM", "Gemma2ForCausalLM"])
def test_outputs_of_the_regression_become_updates(architecture):
    layer = decoder_layers(tiny_models.make_model(architecture))[0]
    projection, inputs, update = called(layer, torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        output = output_of(layer, MLP, projection)
        output.check(MLP, inputs, update)
        added = output.added(output.inputs(inputs) @ projection.weight.T)
        torch.testing.assert_close(added, update, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(output.added(output.missing(update)), update, rtol=1e-5, atol=1e-6)
    assert (output.norm is None) == (architecture == "LlamaForCausalLM")


def test_a_sublayer_that_adds_a_multiple_is_refused():
    layer = decoder_layers(tiny_models.make_model())[0]
    projection, inputs, update = called(layer, torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad(), pytest.raises(UserError, match="the mlp of layer 0 adds something else"):
        output_of(layer, MLP, projection).check(MLP, inputs, update * 0.5)


def test_outputs_that_are_hardly_heard_are_left_as_they_are():
    gains = torch.tensor([1.0, 1e-4, -2.0])
    output = Output(nn.Linear(3, 3), nn.Identity(), gains)
    assert output.missing(torch.tensor([[3.0, 3.0, 3.0]])).tolist() == [[3.0, 0.0, -1.5]]
    assert not output.has_bias


def test_an_attention_is_alone_in_a_layer_only_for_a_while():
    layer = decoder_layers(tiny_models.make_model())[0]
    before = dict(layer.named_modules())
    with alone(layer, "attention"):
        assert "mlp.down_proj" not in dict(layer.named_modules())
    assert dict(layer.named_modules()) == before
