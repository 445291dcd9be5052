"""Fits one output projection on the states that its sub-layer meets, and measures what is still lacking after it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from drop_ray.errors import NotFiniteError, UserError
from drop_ray.models.finite import state_fault
from drop_ray.refit.order import Kind, SubLayer
from drop_ray.refit.ridge import NormalEquations, Solution
from drop_ray.refit.streams import Stream
from drop_ray.refit.sublayers import alone, projection_of, recorded

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What `ridge: auto` chooses from, beside leaving the projection as it is."""
UNCHANGED = math.inf
"""The ridge of a projection that is left as it is."""
# How far, relative to the update, it may differ from its projection's output by the rounding of the sum.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}


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


class Missing:
    """What the states after a sub-layer lack against the base's, as squares, of fitted and of held-out samples."""

    def __init__(self, stream: Stream, targets: Sequence[torch.Tensor]):
        """targets: the base's states of the same micro-batches, on the host."""
        self._stream, self._targets = stream, targets

    def of(self, index: int, after: torch.Tensor) -> torch.Tensor:
        """target - after, float32 or wider, [tokens, hidden_size] on the device."""
        wide = torch.promote_types(after.dtype, torch.float32)
        return (self._targets[index].to(after.device).to(wide) - after.to(wide)).flatten(0, 1)


def fit_sublayer(
    sublayer: SubLayer,
    layer: nn.Module,
    stream: Stream,
    missing: Missing,
    ridge: float | None,
    stored: Mapping[str, torch.Tensor],
    *,
    exact: bool,
) -> tuple[dict[str, torch.Tensor], Fit] | None:
    """Solve a projection anew, put it into the layer and take the stream through it; None without a projection.

    layer: loaded, with the sub-layer in it; stream: the states before it; ridge: None chooses by held-out samples;
    stored: the projection's tensors as the files have them, by `weight` and `bias`, on the host. Returned are their new
    values in the same dtypes.
    """
    found = projection_of(layer, sublayer.kind)
    with alone(layer, sublayer.kind):
        if found is None:
            stream.pass_through(layer, sublayer.layer)
            return None
        projection = found[1]
        equations, before = _sum_up(sublayer, layer, projection, stream, missing, exact)
        equations.center()
        ridge = ridge or _best_ridge(sublayer, layer, projection, stream, missing, equations, before[1])
        solution = equations.solve(ridge, last=True) if ridge != UNCHANGED else None
        tensors = changed(stored, solution)
        put(projection, tensors)
        after = [0.0, 0.0]
        for index, batch in enumerate(stream.batches):
            state = stream.after(layer, sublayer.layer, index)
            after[batch.held_out] += _square(missing.of(index, state))
            stream.states[index] = state.to("cpu")
    inputs = projection.in_features
    return tensors, Fit(sublayer.layer, sublayer.kind, ridge, equations.tokens, inputs, before[0], after[0], before[1], after[1])


def changed(stored: Mapping[str, torch.Tensor], solution: Solution | None) -> dict[str, torch.Tensor]:
    """A projection's tensors with the solution added, in float64 and then rounded to their own dtypes."""
    if solution is None:
        return dict(stored)
    changes = {"weight": solution.weight.T, "bias": solution.bias}
    return {
        name: (tensor.double() + change.to("cpu")).to(tensor.dtype)
        for name, tensor in stored.items()
        if (change := changes[name]) is not None
    }


def put(projection: nn.Linear, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a projection other values."""
    for name, tensor in tensors.items():
        getattr(projection, name).copy_(tensor)


def _sum_up(
    sublayer: SubLayer,
    layer: nn.Module,
    projection: nn.Linear,
    stream: Stream,
    missing: Missing,
    exact: bool,
) -> tuple[NormalEquations, list[float]]:
    """The normal equations of the samples to fit to, and the squares of what fitted and held-out samples lack."""
    device = projection.weight.device
    has_bias = projection.bias is not None
    equations = NormalEquations(
        projection.in_features, projection.out_features, bias=has_bias, device=device, exact=exact
    )
    squares = [0.0, 0.0]
    for index, inputs, lacking in _inputs(sublayer, layer, projection, stream, missing):
        held_out = stream.batches[index].held_out
        squares[held_out] += _square(lacking)
        if not held_out:
            equations.add(inputs, lacking)
    if not all(map(math.isfinite, squares)):
        place = f"refit: the residual state after the {sublayer.kind} of layer {sublayer.layer}"
        raise NotFiniteError(state_fault(place, projection.weight.dtype))
    return equations, squares


def _inputs(
    sublayer: SubLayer, layer: nn.Module, projection: nn.Linear, stream: Stream, missing: Missing, held_out_only: bool = False
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(micro-batch, inputs of the projection, what the state after it lacks), the latter two [tokens, width]."""
    with recorded(projection) as seen:
        for index, batch in enumerate(stream.batches):
            if held_out_only and not batch.held_out:
                continue
            after = stream.after(layer, sublayer.layer, index)
            inputs = seen.pop().flatten(0, 1)
            if index == 0:
                _check_output(sublayer, projection, inputs, (after - stream.state(index)).flatten(0, 1))
            yield index, inputs, missing.of(index, after)


def _check_output(sublayer: SubLayer, projection: nn.Linear, inputs: torch.Tensor, update: torch.Tensor) -> None:
    """UserError unless the sub-layer adds to the residual stream what its projection gives."""
    tolerance = ROUNDING.get(update.dtype, 0.1)
    output = nn.functional.linear(inputs, projection.weight, projection.bias)
    if (output - update).norm() > tolerance * update.norm():
        raise UserError(
            f"refit: the {sublayer.kind} of layer {sublayer.layer} adds something else to the residual stream than its "
            "output projection gives, such as a multiple of it, which refitting is not made for; leave out `refit`"
        )


def _best_ridge(
    sublayer: SubLayer,
    layer: nn.Module,
    projection: nn.Linear,
    stream: Stream,
    missing: Missing,
    equations: NormalEquations,
    unchanged: float,
) -> float:
    """The ridge after which held-out samples lack least; the largest of equals. `unchanged`: what they lack now."""
    squares = {UNCHANGED: unchanged}
    for ridge in sorted(RIDGES, reverse=True):
        solution = equations.solve(ridge, last=False)
        weight = solution.weight.to(projection.weight.dtype)
        bias = 0 if solution.bias is None else solution.bias.to(weight.dtype)
        squares[ridge] = sum(
            _square(lacking - (inputs @ weight + bias))
            for _, inputs, lacking in _inputs(sublayer, layer, projection, stream, missing, held_out_only=True)
        )
    return min(squares, key=squares.__getitem__)


def _square(values: torch.Tensor) -> float:
    return float((values.double() ** 2).sum())
