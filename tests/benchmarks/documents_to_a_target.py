"""How many documents a task with a target takes, and how often its interval misses.

    python tests/benchmarks/documents_to_a_target.py [REPEATS]

Out: a line for each kind of task. `fixed` is what an interval for one fixed number of documents takes (the normal one,
with the correction for a finite population), which may be looked at once only; `ratio` is how many times that the
target takes. `missed` is the share of orders in which the interval missed the mean at any look; 5 % are allowed.
"""

import sys

import numpy as np

from drop_ray.evaluation.targets.betting import mean_difference_interval
from drop_ray.evaluation.targets.target import looks

# Documents; shares that become right and wrong; half the width.
CASES = (
    (14_042, 0.05, 0.05, 0.01),
    (14_042, 0.05, 0.05, 0.02),
    (14_042, 0.02, 0.03, 0.01),
    (10_042, 0.05, 0.15, 0.02),
    (10_042, 0.10, 0.30, 0.03),
    (10_042, 0.0, 0.0, 0.01),
    (10_042, 0.0, 0.0, 0.02),
    (1319, 0.05, 0.05, 0.02),
    (1172, 0.05, 0.05, 0.03),
    (400, 0.05, 0.05, 0.05),
)


def population(size: int, up: float, down: float) -> np.ndarray:
    values = np.zeros(size)
    values[: round(size * up)] = 1
    values[round(size * up) : round(size * up) + round(size * down)] = -1
    return values


def stops_at(values: np.ndarray, within: float) -> tuple[int, bool]:
    missed = False
    for count in looks(len(values)):
        low, high = mean_difference_interval(values[:count], len(values), within, 0.95)
        missed |= not low - 1e-6 <= values.mean() <= high + 1e-6
        if (high - low) / 2 <= within:
            break
    return count, missed


def main(repeats: int) -> None:
    draws = np.random.default_rng(0)
    print("documents  up    down  +-     fixed  target  of all   ratio  missed")
    for size, up, down, within in CASES:
        values = population(size, up, down)
        found = [stops_at(draws.permutation(values), within) for _ in range(repeats)]
        unlimited = 1.96**2 * values.var() / within**2
        fixed, taken = unlimited / (1 + unlimited / size), float(np.median([count for count, _ in found]))
        ratio = f"{taken / fixed:6.2f}" if fixed else "     -"
        missed = 100 * sum(one for _, one in found) / repeats
        print(
            f"{size:9,}  {up:<5.2f} {down:<5.2f} {within:<5.2f} {fixed:6,.0f} {taken:7,.0f}  "
            f"{100 * taken / size:5.1f} %  {ratio}  {missed:4.1f} %"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
