"""What a sub-layer adds to the residual stream, as a linear function of its projection's inputs.

Most sub-layers add what their output projection gives. Where a norm follows (OLMo 2 and 3, Gemma 2 and 3), z = a W
becomes g z / |z|, with a scale |z| of each token, its root mean square, and a gain g of each output. The regression is
then made in front of the norm: |z| is taken as it is, so that a / |z| are the inputs and r / g the outputs that lack.
"""

from dataclasses import dataclass

import torch
from torch import nn

from drop_ray.errors import UserError
from drop_ray.models.sublayers import sublayer_names
from drop_ray.refit.order import SubLayer
from drop_ray.refit.sublayers import has_output_norm

# A vector of so large equal numbers is its own root mean square to the norm, whatever it adds to divide by.
LARGE = 1e3
# Outputs whose gain is a smaller part of the mean gain are left as they are: hardly anything of them is heard.
SMALLEST_GAIN = 0.01
# How far an update may differ from what is expected of it, relative to its length, by rounding.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-4}
ROUNDING_IN_16_BITS = 0.1


@dataclass(frozen=True)
class Output:
    """How the output of one projection comes into the residual stream."""

    projection: nn.Linear
    """The projection."""
    norm: nn.Module | None = None
    """The norm that follows it."""
    gains: torch.Tensor | None = None
    """The norm's gain of each output, [hidden_size]; None without a norm."""

    @property
    def has_bias(self) -> bool:
        """Whether a bias is solved too: behind a norm it would not be free of the token's scale."""
        return self.projection.bias is not None and self.gains is None

    def inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs of the regression from those of the projection, both [tokens, inputs]."""
        return inputs if self.norm is None else inputs / self._scales(self._given(inputs))

    def missing(self, missing: torch.Tensor) -> torch.Tensor:
        """Outputs of the regression from what the residual stream lacks, both [tokens, hidden_size]."""
        if self.gains is None:
            return missing
        heard = self.gains.abs() > SMALLEST_GAIN * self.gains.abs().mean()
        return torch.where(heard, missing / self.gains, 0)

    def added(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the residual stream gains from outputs of the regression, both [tokens, hidden_size]."""
        return outputs if self.gains is None else outputs * self.gains

    def check(self, sublayer: SubLayer, inputs: torch.Tensor, update: torch.Tensor) -> None:
        """UserError unless the update of a sub-layer, [tokens, hidden_size], is what is expected for these inputs."""
        given = self._given(inputs)
        expected = given if self.norm is None else self.added(given / self._scales(given))
        tolerance = ROUNDING.get(update.dtype, ROUNDING_IN_16_BITS)
        if (expected - update).norm() > tolerance * update.norm():
            raise UserError(
                f"refit: the {sublayer.kind} of layer {sublayer.layer} adds something else to the residual stream than "
                "its output projection and a norm give, such as a multiple of it, which refitting is not made for; "
                "leave out `refit`"
            )

    def _given(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(inputs, self.projection.weight, self.projection.bias)

    def _scales(self, given: torch.Tensor) -> torch.Tensor:
        """What the norm divides each token by, [tokens, 1]; 1 for a token of zeros."""
        assert self.norm is not None
        before, after = (values.norm(dim=-1, keepdim=True) for values in (self.added(given), self.norm(given)))
        return torch.where(after > 0, before / after, 1)


def output_of(layer: nn.Module, sublayer: SubLayer, projection: nn.Linear) -> Output:
    """How a sub-layer adds what its projection gives. layer: loaded."""
    if not has_output_norm(layer):
        return Output(projection)
    norm = getattr(layer, sublayer_names(layer)[sublayer.kind][-1])
    weight = projection.weight
    ones = torch.full((1, projection.out_features), LARGE, dtype=weight.dtype, device=weight.device)
    return Output(projection, norm, norm(ones)[0])
