"""How much longer a scoring sweep takes than a bare forward pass of the same model over the same samples.

    python tests/benchmarks/sweep_speed.py [--hidden 1024] [--layers 8] [--vocabulary 1000] [--rounds 5]

One process, one thread, float32, the variants in turn in every round; the ratios are taken round by round.
Targets: at most 1.15 at gap 1, 1.30 with windows up to 8.
"""

import statistics
import time

import torch
from timed_llama import make_llama, options_of

from drop_ray.models.families import DropLists
from drop_ray.scoring.layers import ResidentLayers
from drop_ray.scoring.sweep import SweepSettings, sweep

MICRO_BATCH = 2


def bare_forward(model, ids):
    with torch.inference_mode():
        for batch in ids.split(MICRO_BATCH):
            model.model(batch, use_cache=False)


def scored(model, ids, gaps, metrics=("cosine",)):
    settings = SweepSettings(MICRO_BATCH, gaps, metrics=metrics)
    list(sweep(model, ResidentLayers(model.model.layers), ids, [range(len(ids))], settings, DropLists()))


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    options = options_of(__doc__, hidden=1024, layers=8, vocabulary=1000, rounds=5)
    model = make_llama(options)
    ids = torch.randint(0, options.vocabulary, (4, 256))
    variants = {
        "bare forward": lambda: bare_forward(model, ids),
        "sweep, gap 1": lambda: scored(model, ids, (1,)),
        "sweep, gaps 1 to 8": lambda: scored(model, ids, tuple(range(1, 9))),
        "sweep, two metrics": lambda: scored(model, ids, (1,), ("cosine", "angular")),
    }
    for work in variants.values():
        work()
    rounds = [{name: seconds(work) for name, work in variants.items()} for _ in range(options.rounds)]
    for name in variants:
        ratios = sorted(measured[name] / measured["bare forward"] for measured in rounds)
        absolute = statistics.median(measured[name] for measured in rounds)
        print(
            f"{name:20} {absolute:7.2f} s  ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
