"""Fits one output projection on the states that its sub-layer meets, and measures what is still lacking after it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from drop_ray.errors import NotFiniteError
from drop_ray.models.finite import state_fault
from drop_ray.refit.order import Kind, SubLayer
from drop_ray.refit.output import Output, output_of
from drop_ray.refit.ridge import NormalEquations, Solution
from drop_ray.refit.streams import Stream
from drop_ray.refit.sublayers import alone, projection_of, recorded

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What `ridge: auto` chooses from, beside leaving the projection as it is."""
UNCHANGED = math.inf
"""The ridge of a projection that is left as it is."""


@dataclass(frozen=True)
class Fit:
    """What refitting one sub-layer did. Squared lengths are summed over tokens."""

    layer: int
    """Number of its layer."""
    module: Kind
    """Its kind."""
    ridge: float
    """The ridge that was taken; infinity left the projection as it is."""
    tokens: int
    """Number of tokens that it was fitted to."""
    inputs: int
    """Inputs of its projection."""
    fitted_before: float
    """Squared length of what the residual states lacked, over the tokens it was fitted to, before."""
    fitted_after: float
    """The same after."""
    held_out_before: float
    """Squared length of what the residual states of held-out samples lacked, before."""
    held_out_after: float
    """The same after."""


@dataclass(frozen=True)
class Fitter:
    """One projection in its layer, with the states that it meets."""

    sublayer: SubLayer
    """The sub-layer, which is alone in the layer."""
    layer: nn.Module
    """The loaded layer."""
    output: Output
    """Its projection, and how that adds to the residual stream."""
    stream: Stream
    """The states before it."""
    targets: Sequence[torch.Tensor]
    """The base's states, which are to be reached, of the same micro-batches, on the host."""

    def missing(self, index: int, after: torch.Tensor) -> torch.Tensor:
        """What a state lacks, float32 or wider, [tokens, hidden_size] on the device."""
        wide = torch.promote_types(after.dtype, torch.float32)
        return (self.targets[index].to(after.device).to(wide) - after.to(wide)).flatten(0, 1)

    def sum_up(self, *, exact: bool) -> tuple[NormalEquations, list[float]]:
        """The normal equations of the samples to fit to, and the squares of what fitted and held-out samples lack.

        exact: whether products are of float64. NotFiniteError at a state that is not finite.
        """
        projection = self.output.projection
        equations = NormalEquations(
            projection.in_features,
            projection.out_features,
            bias=self.output.has_bias,
            device=projection.weight.device,
            exact=exact,
        )
        squares = [0.0, 0.0]
        for index, inputs, missing in self._pairs():
            held_out = self.stream.batches[index].held_out
            squares[held_out] += _square(missing)
            if not held_out:
                equations.add(inputs, self.output.missing(missing))
        if not all(map(math.isfinite, squares)):
            place = f"refit: the residual state after the {self.sublayer.kind} of layer {self.sublayer.layer}"
            raise NotFiniteError(state_fault(place, projection.weight.dtype))
        equations.center()
        return equations, squares

    def best_ridge(self, equations: NormalEquations, unchanged: float) -> float:
        """The ridge after which held-out samples lack least; the largest of equals. unchanged: what they lack now."""
        squares = {UNCHANGED: unchanged}
        for ridge in sorted(RIDGES, reverse=True):
            solution = equations.solve(ridge, last=False)
            squares[ridge] = sum(
                _square(missing - self.output.added(solution.outputs(inputs)))
                for _, inputs, missing in self._pairs(held_out_only=True)
            )
        return min(squares, key=squares.__getitem__)

    def pass_through(self) -> list[float]:
        """Take the states on; returns the squares of what fitted and held-out samples lack then."""
        squares = [0.0, 0.0]
        for index, batch in enumerate(self.stream.batches):
            after = self.stream.after(self.layer, self.sublayer.layer, index)
            squares[batch.held_out] += _square(self.missing(index, after))
            self.stream.states[index].copy_(after)
        return squares

    def _pairs(self, held_out_only: bool = False) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(micro-batch, inputs of the regression, what the state after it lacks), the latter two [tokens, width]."""
        with recorded(self.output.projection) as seen:
            for index, batch in enumerate(self.stream.batches):
                if held_out_only and not batch.held_out:
                    continue
                after = self.stream.after(self.layer, self.sublayer.layer, index)
                inputs = seen.pop().flatten(0, 1)
                if index == 0:
                    self.output.check(self.sublayer, inputs, (after - self.stream.state(index)).flatten(0, 1))
                yield index, self.output.inputs(inputs), self.missing(index, after)


def fit_sublayer(
    sublayer: SubLayer,
    layer: nn.Module,
    stream: Stream,
    targets: Sequence[torch.Tensor],
    ridge: float | None,
    stored: Mapping[str, torch.Tensor],
    *,
    exact: bool,
) -> tuple[dict[str, torch.Tensor], Fit] | None:
    """Solve a projection anew, put it into the layer and take the stream through it; None without a projection.

    layer: loaded; targets: as of a Fitter; ridge: None chooses by held-out samples; stored: the projection's tensors as
    the files have them, by `weight` and `bias`, on the host. Returned are new values of them, in the same dtypes.
    """
    found = projection_of(layer, sublayer.kind)
    with alone(layer, sublayer.kind):
        if found is None:
            stream.pass_through(layer, sublayer.layer)
            return None
        projection = found[1]
        fitter = Fitter(sublayer, layer, output_of(layer, sublayer, projection), stream, targets)
        equations, before = fitter.sum_up(exact=exact)
        ridge = ridge or fitter.best_ridge(equations, before[1])
        solution = equations.solve(ridge, last=True) if ridge != UNCHANGED else None
        tensors = changed(stored, solution)
        put(projection, tensors)
        after = fitter.pass_through()
    fit = Fit(
        layer=sublayer.layer,
        module=sublayer.kind,
        ridge=ridge,
        tokens=equations.tokens,
        inputs=projection.in_features,
        fitted_before=before[0],
        fitted_after=after[0],
        held_out_before=before[1],
        held_out_after=after[1],
    )
    return tensors, fit


def changed(stored: Mapping[str, torch.Tensor], solution: Solution | None) -> dict[str, torch.Tensor]:
    """A projection's tensors with the solution added, in float64 and then rounded to their own dtypes."""
    if solution is None:
        return dict(stored)
    changes = {"weight": solution.weight.T, "bias": solution.bias}
    return {
        name: tensor if (change := changes[name]) is None else (tensor.double() + change.to("cpu")).to(tensor.dtype)
        for name, tensor in stored.items()
    }


def put(projection: nn.Linear, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a projection other values."""
    for name, tensor in tensors.items():
        getattr(projection, name).copy_(tensor)


def _square(values: torch.Tensor) -> float:
    return float((values.double() ** 2).sum())
