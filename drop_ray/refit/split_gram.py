"""The sum of a'a over tokens, in the memory of one float32 matrix: as on GPUs, most of which are slow in float64.

A symmetric matrix has every number twice. Here each sum above the diagonal is the float32 number nearest to it, and in
its place below the diagonal is what that number lacks: together 48 bits, near the 53 of float64. Products of a chunk of
tokens are of float32, and are added to the sums in float64, a panel of rows at a time.

Equations are solved by Cholesky in float32, which takes the matrix' place on the device while that waits on the host.
The last solution is refined: what it lacks, in float64 from the sums in full, is solved for by the same factor
(Higham, Accuracy and Stability of Numerical Algorithms, chapter 12). Refinement ends when a step changes no more than
TOLERANCE of the solution. Where it does not come to that, the sums being too ill-conditioned for a factor in float32,
the equations are solved in float64 on the host.
"""

import logging
from collections.abc import Iterator

import torch

logger = logging.getLogger(__name__)

ROWS = 256
"""Rows of a panel. Some panels of float64 are all the memory that is needed beside the matrix."""
TOLERANCE = 1e-6
"""Length of the last correction, relative to the solution's."""
STEPS = 10
"""Most corrections of a solution."""


class SplitGram:
    """As `gram.Gram` describes. Blocks on the diagonal are kept apart, in float64."""

    def __init__(self, width: int, device: torch.device | str):
        self._sums = torch.zeros(width, width, dtype=torch.float32, device=device)
        self._blocks = [self._sums.new_zeros(2 * (len(rows),), dtype=torch.float64) for rows in _panels(width)]
        # The sums while the device's matrix holds a factor; None before the first one.
        self._waiting: torch.Tensor | None = None

    def add(self, inputs: torch.Tensor) -> None:
        for rows, block in zip(_panels(len(self._sums)), self._blocks, strict=True):
            product = inputs[:, rows.start : rows.stop].T @ inputs[:, rows.start :]
            block += product[:, : len(rows)]
            self._add_panel(rows, product[:, len(rows) :])

    def add_outer(self, vector: torch.Tensor, factor: float) -> None:
        for rows, block in zip(_panels(len(self._sums)), self._blocks, strict=True):
            product = factor * vector[rows.start : rows.stop].outer(vector[rows.start :])
            block += product[:, : len(rows)]
            self._add_panel(rows, product[:, len(rows) :])

    def mean_diagonal(self) -> float:
        return float(torch.cat([block.diagonal() for block in self._blocks]).mean())

    def solve(self, strength: float, products: torch.Tensor, *, last: bool) -> torch.Tensor:
        factor = self._factor(strength)
        if factor is not None:
            solution = _solved(factor, products)
            if not last:
                return solution
            for _ in range(STEPS):
                correction = _solved(factor, products - self._times(solution, strength))
                solution += correction
                if correction.norm() <= TOLERANCE * solution.norm():
                    return solution
        logger.info("refit: float32 is not enough for a sum of products; it is solved in float64 on the host")
        return self._solved_on_host(strength, products)

    def _add_panel(self, rows: range, product: torch.Tensor) -> None:
        """Add to the sums right of the diagonal's block; product: [rows, columns] in float32 or float64."""
        above, below = self._sums[rows.start : rows.stop, rows.stop :], self._sums[rows.stop :, rows.start : rows.stop]
        total = above.double() + below.T + product
        above.copy_(total)
        below.copy_((total - above).T)

    def _panel(self, rows: range, block: torch.Tensor) -> torch.Tensor:
        """The sums from the diagonal's block on, float64 [rows, columns], on the device."""
        sums = self._sums if self._waiting is None else self._waiting
        above = sums[rows.start : rows.stop, rows.stop :].to(block.device)
        below = sums[rows.stop :, rows.start : rows.stop].to(block.device)
        return torch.cat([block, above.double() + below.T], dim=1)

    def _factor(self, strength: float) -> torch.Tensor | None:
        """The lower factor in float32, in the place of the sums on the device; None where float32 is not enough."""
        if self._waiting is None:
            self._waiting = self._sums.to("cpu", copy=True)
        else:
            self._sums.copy_(self._waiting)
        for rows, block in zip(_panels(len(self._sums)), self._blocks, strict=True):
            place = self._sums[rows.start : rows.stop, rows.start : rows.stop]
            place.copy_(block)
            place.diagonal().copy_(block.diagonal() + strength)
        # Seen transposed, the sums are below the diagonal, and in LAPACK's order: factored where they lie.
        factor, fault = self._sums.mT, torch.zeros((), dtype=torch.int32, device=self._sums.device)
        torch.linalg.cholesky_ex(factor, out=(factor, fault))
        return None if fault else factor

    def _times(self, values: torch.Tensor, strength: float) -> torch.Tensor:
        """(G + strength I) values, float64 [width, outputs]."""
        result = strength * values
        for rows, block in zip(_panels(len(self._sums)), self._blocks, strict=True):
            panel = self._panel(rows, block)
            result[rows.start : rows.stop] += panel @ values[rows.start :]
            result[rows.stop :] += panel[:, len(rows) :].T @ values[rows.start : rows.stop]
        return result

    def _solved_on_host(self, strength: float, products: torch.Tensor) -> torch.Tensor:
        lower = torch.zeros(self._sums.shape, dtype=torch.float64)
        for rows, block in zip(_panels(len(lower)), self._blocks, strict=True):
            lower[rows.start :, rows.start : rows.stop] = self._panel(rows, block).T
        lower.diagonal().add_(strength)
        factor = torch.linalg.cholesky(lower)
        return torch.cholesky_solve(products.to("cpu"), factor).to(products.device)


def _panels(width: int) -> Iterator[range]:
    return (range(start, min(start + ROWS, width)) for start in range(0, width, ROWS))


def _solved(factor: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Solutions in float32 as float64. By triangles: `cholesky_solve` would copy the factor."""
    halfway = torch.linalg.solve_triangular(factor, values.float(), upper=False)
    solution: torch.Tensor = torch.linalg.solve_triangular(factor.mT, halfway, upper=True)
    return solution.double()
