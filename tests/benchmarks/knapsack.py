"""How long the knapsack of a model of 80 layers takes: less than a second, whatever the savings are.

    python tests/benchmarks/knapsack.py [--seeds 10]

A model's sub-layers save the same by kind, or, in the harder case, each its own amount of up to three resources.
"""

import argparse
import random
import time

from drop_ray.planning.budgets.knapsack import cheapest
from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.budgets.resources import Resource
from drop_ray.planning.modules import Module
from drop_ray.text.quantities import Quantity

LAYERS = 80
SAVED = {"attention": (150e6, 4096, 1), "mlp": (700e6, 0, 1)}
MOST_S = 1.0


def case(seed, kinds, like_a_model):
    draw = random.Random(seed)
    modules = [Module(kind, layer) for layer in range(LAYERS) for kind in SAVED]
    scores = {module: draw.lognormvariate(-3, 1) for module in modules}
    limits = []
    for kind in range(kinds):
        saved = {
            module: SAVED[module.kind][kind] if like_a_model else draw.randint(10**8, 3 * 10**8) for module in modules
        }
        total = sum(saved.values())
        limits.append(Limit("bytes", Quantity(str(draw.uniform(0.4, 0.9)), "x"), Resource(total, total, saved)))
    return scores, limits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    slowest = 0.0
    for like_a_model in (True, False):
        for kinds in (1, 2, 3):
            times = []
            for seed in range(arguments.seeds):
                scores, limits = case(seed, kinds, like_a_model)
                start = time.perf_counter()
                cheapest(scores, limits)
                times.append(time.perf_counter() - start)
            slowest = max(slowest, *times[1:])  # the first imports SciPy
            savings = "by kind" if like_a_model else "all different"
            print(
                f"{kinds} limits, savings {savings}: {sorted(times)[len(times) // 2]:.3f} s, at most {max(times):.3f} s"
            )
    assert slowest < MOST_S, f"{slowest:.2f} s for {2 * LAYERS} sub-layers"


if __name__ == "__main__":
    main()
