"""Ridge regression by normal equations that are summed over portions of tokens, and solved by Cholesky.

For inputs a and outputs r that are lacking, a row per token, the change D of a projection's transposed weight is

    argmin |a D - r|^2 + lambda |D|^2 = (a'a + lambda I)^-1 a'r,    lambda = ridge x mean diagonal of a'a

With a bias, which costs nothing, a and r are taken less their means.
"""

from dataclasses import dataclass

import torch

from drop_ray.refit.gram import ExactGram, Gram
from drop_ray.refit.split_gram import SplitGram

# Tokens whose products are summed at a time: what is converted to float64 stays small, and a sum in float32 short.
CHUNK = 1024


@dataclass(frozen=True)
class Solution:
    """What is added to a projection."""

    weight: torch.Tensor
    """To its transposed weight, float64 [inputs, outputs]."""
    bias: torch.Tensor | None
    """To its bias, float64 [outputs]; None where it has none."""

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """What is added to the projection's outputs, [tokens, outputs], for inputs of any dtype."""
        outputs = inputs @ self.weight.to(inputs.dtype)
        return outputs if self.bias is None else outputs + self.bias.to(inputs.dtype)


class NormalEquations:
    """Sums over tokens, on the device of the inputs.

    With `exact` products and sums are of float64. Without, each chunk's products are of float32, and the
    sums nearly of float64 in half the memory: for GPUs, whose memory is scarce, and most of which are slow in float64.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, device: torch.device | str, exact: bool):
        """inputs, outputs: widths of the projection; bias: whether it has one."""
        self._gram: Gram = ExactGram(inputs, device) if exact else SplitGram(inputs, device)
        self._products = torch.zeros(inputs, outputs, dtype=torch.float64, device=device)
        self._sums = (self._products.new_zeros(inputs), self._products.new_zeros(outputs)) if bias else None
        self._dtype = torch.float64 if exact else torch.float32
        self.tokens = 0

    def add(self, inputs: torch.Tensor, missing: torch.Tensor) -> None:
        """inputs: [tokens, inputs] of the projection; missing: [tokens, outputs] that its output lacks."""
        for start in range(0, len(inputs), CHUNK):
            a, r = (part[start : start + CHUNK].to(self._dtype) for part in (inputs, missing))
            self._gram.add(a)
            if self._dtype == torch.float64:
                self._products.addmm_(a.T, r)
            else:
                self._products += a.T @ r
            if self._sums is not None:
                self._sums[0].add_(a.double().sum(0))
                self._sums[1].add_(r.double().sum(0))
            self.tokens += len(a)

    def center(self) -> None:
        """With a bias, take inputs and outputs less their means. Called once, after the last `add`."""
        if self._sums is not None:
            a, r = self._sums
            self._gram.add_outer(a, -1 / self.tokens)
            self._products.addr_(a, r, alpha=-1 / self.tokens)

    def solve(self, ridge: float, *, last: bool) -> Solution:
        """The change for this ridge. With `last`, the sums are used up.

        Inputs that are all zero change nothing.
        """
        strength = ridge * self._gram.mean_diagonal()
        if strength == 0:
            weight = torch.zeros_like(self._products)
        else:
            weight = self._gram.solve(strength, self._products, last=last)
        if self._sums is None:
            return Solution(weight, None)
        a, r = self._sums
        return Solution(weight, (r - a @ weight) / self.tokens)
