"""The sum of a'a over tokens, in float64: as on CPUs."""

from typing import Protocol

import torch


class Gram(Protocol):
    """A symmetric matrix of sums of products, and the solver of equations with it."""

    def add(self, inputs: torch.Tensor) -> None:
        """Add a'a. inputs: a, [tokens, width], in the dtype that products are computed in."""

    def add_outer(self, vector: torch.Tensor, factor: float) -> None:
        """Add factor x v v'. vector: v, float64 [width]."""

    def mean_diagonal(self) -> float:
        """The mean of its diagonal."""

    def solve(self, strength: float, products: torch.Tensor, *, last: bool) -> torch.Tensor:
        """(G + strength I)^-1 products, both float64 [width, outputs]. `last`: the sums are used up."""


class ExactGram:
    """In one float64 matrix on the device; with a solution that is not the last, a second one for its factor."""

    def __init__(self, width: int, device: torch.device | str):
        self._sums = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, inputs: torch.Tensor) -> None:
        self._sums.addmm_(inputs.T, inputs)

    def add_outer(self, vector: torch.Tensor, factor: float) -> None:
        self._sums.addr_(vector, vector, alpha=factor)

    def mean_diagonal(self) -> float:
        return float(self._sums.diagonal().mean())

    def solve(self, strength: float, products: torch.Tensor, *, last: bool) -> torch.Tensor:
        sums = self._sums if last else self._sums.clone()
        sums.diagonal().add_(strength)
        # The sums are symmetric: seen transposed they have LAPACK's order, and are factored where they lie.
        factor = torch.linalg.cholesky(sums.mT, out=sums.mT)
        return torch.cholesky_solve(products, factor)
