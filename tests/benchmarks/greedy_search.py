"""What searching costs on the demo, and what it finds: greedy search against one ranking, refitted or not.

    python tests/benchmarks/greedy_search.py [--samples 8] [--refit-samples 64]

1. Passes through a sub-layer, counted: greedy joint search of 14 of 24 sub-layers with a width of 4, against greedy
   search that measures all candidates and computes each model from its first layer on. Target: at most 0.22 of them,
   in the same order, or at a KL within 3 % of full greedy search.
2. KL to the base per token on the demo's held-out text of both plans, and of the plan that ranks by cosine once.
3. Where the first two of greedy search rank among all pairs, on the samples searched on.
4. KL of joint plans: refitted once, and chosen on the model as refitted after each drop.

Differences are paired by sample, with 95 % intervals. Everything runs in this process, on one thread.
"""

import argparse
import itertools
import time
from dataclasses import dataclass

import torch
from refit_quality import HELD_OUT, JUDGED, token_ids

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.evaluation.divergence.kept_states import KeptStates
from drop_ray.evaluation.divergence.panel import kl_difference
from drop_ray.evaluation.divergence.state_models import LayeredModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.edited import edited
from drop_ray.models.families import DropLists
from drop_ray.planning.modules import candidates, drops_name, without
from drop_ray.planning.search.side_by_side import follow
from drop_ray.planning.strategies.greedy import GREEDY
from drop_ray.planning.strategies.search import Task
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import RefitSettings
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

NUM_LAYERS, WIDTH, DROPPED = 12, 4, 14
NOTHING = DropLists()
JOINT = tuple(candidates("joint", NUM_LAYERS, NOTHING))
SIZES = {"dtype": torch.float32, "attn_implementation": "sdpa"}
SETTINGS = DivergenceSettings(micro_batch=4)


@dataclass(frozen=True)
class Fitted:
    """Tensors of a refit, in memory."""

    tensors: dict
    """By name."""

    def edits(self, name):
        return name in self.tensors

    def edit(self, name, tensor):
        return self.tensors[name].to(tensor.dtype)


class Counted:
    """The base in memory, with the number of passes through its sub-layers."""

    def __init__(self):
        self.checkpoint = open_checkpoint(DEMO_FOLDER / "model")
        self.model = LayeredModel(self.checkpoint, **SIZES, placement="resident")
        self.passes = 0
        for layer in self.model._model.base_model.layers:
            for module in (layer.self_attn, layer.mlp):
                module.register_forward_hook(self._count)

    def forget(self):
        """Keep the base's states, as the workers of a search do, from now on."""
        self.model._kept = KeptStates(NOTHING, 1 << 30)

    def _count(self, *_):
        self.passes += 1

    def kl(self, lists, tokens, own=None):
        """KL per token of each sample, by drop lists. own: a model with other weights."""
        names = {drops_name(drops): drops for drops in lists}
        compared = {name: Compared(own or self.model, drops) for name, drops in names.items()}
        found = compare_with_base(Compared(self.model, NOTHING), compared, tokens, SETTINGS).found
        return {drops: found[name].kl.mean(axis=1) for name, drops in names.items()}


def greedy(base, tokens, width):
    """What greedy search drops, in its order."""
    batches = -(-len(tokens) // SETTINGS.micro_batch)
    base.forget()
    before, started = base.passes, time.perf_counter()
    # As in a store.
    measured = {}

    def measure(asked):
        (each,) = asked.values()
        lists = {more: without(NOTHING, (*each.dropped, *more)) for more in each.additions}
        new = [drops for drops in lists.values() if drops not in measured]
        measured.update((drops, float(values.mean())) for drops, values in base.kl(new, tokens).items())
        return {"search": {more: measured[drops] for more, drops in lists.items()}}

    chosen = follow({"search": GREEDY.search(Task(DROPPED, JOINT, width))}, measure)["search"]
    return chosen, (base.passes - before) / batches, time.perf_counter() - started


def naive_passes():
    """Of greedy search in which every model goes through all of its sub-layers, and the base once."""
    left = len(JOINT)
    return left + sum((left - number) * (left - number - 1) for number in range(DROPPED))


def ranked(checkpoint, tokens, lacking):
    """What is left, by importance."""
    scorer = Scorer(checkpoint, lacking, **SIZES, placement="resident")
    totals = {}
    for _, rows in scorer.score(tokens, [range(len(tokens))], SweepSettings(4, (1,))):
        for row in rows:
            totals[row.module, row.layer] = totals.get((row.module, row.layer), 0.0) + row.total
    left = candidates("joint", NUM_LAYERS, lacking)
    return sorted(left, key=lambda module: (totals[module.kind, module.layer], -module.layer, module.kind))


def refit(base, drops, tokens):
    """The checkpoint with what is left fitted anew."""
    settings = RefitSettings(0.1, 4, torch.float32, "sdpa")
    held_out = range(len(tokens) - HELD_OUT, len(tokens))
    refitting = Refitting(base.checkpoint, tokens, held_out, settings)
    refitting.add(base.checkpoint, drops)
    tensors = {name: tensor for _, fit in refitting.layers() for name, tensor in fit.tensors.items()}
    return edited(base.checkpoint, [Fitted(tensors)])


def on_refitted(base, tokens, fitted_to, count):
    """The drop lists chosen one at a time by cosine, each on the model as refitted so far."""
    drops = NOTHING
    for _ in range(count):
        checkpoint = refit(base, drops, fitted_to) if drops.count else base.checkpoint
        drops = without(drops, ranked(checkpoint, tokens, drops)[:1])
    return drops


def interval(one, other):
    """Mean difference of two variants with its 95 % interval."""
    found = kl_difference(dict(enumerate(one)), dict(enumerate(other)))
    return f"{found.value:+.4f} [{found.value - 1.96 * found.stderr:+.4f}, {found.value + 1.96 * found.stderr:+.4f}]"


def shown(modules):
    return " ".join(f"{module.kind[0]}{module.layer}" for module in modules)


def search_and_compare(base, tokens, judged):
    naive, orders = naive_passes(), []
    print(f"without reuse: {naive} passes")
    for width in (WIDTH, None):
        order, passes, seconds = greedy(base, tokens, width)
        orders.append(order)
        share = passes / naive
        print(f"width {width}: {passes:.0f} passes, {share:.3f} of them, {seconds:.0f} s; {shown(order)}", flush=True)
    narrow, whole = orders
    once = ranked(base.checkpoint, tokens, NOTHING)
    print(f"cosine: {shown(once[:DROPPED])}", flush=True)
    for count in (4, 8, 12, DROPPED):
        lists = [without(NOTHING, order[:count]) for order in (narrow, whole, once)]
        own, full, cosine = (base.kl([drops], judged)[drops] for drops in lists)
        print(
            f"joint-{count}: held-out KL greedy {own.mean():.4f}, full {full.mean():.4f}, cosine {cosine.mean():.4f}; "
            f"greedy less cosine {interval(own, cosine)}",
            flush=True,
        )
    return narrow, once


def exhaustive_pairs(base, tokens, narrow):
    pairs = [without(NOTHING, pair) for pair in itertools.combinations(JOINT, 2)]
    kl = {drops: float(values.mean()) for drops, values in base.kl(pairs, tokens).items()}
    mine, best = without(NOTHING, narrow[:2]), min(kl, key=kl.__getitem__)
    place = 1 + sum(value < kl[mine] for value in kl.values())
    print(
        f"of {len(kl)} pairs greedy has number {place}: KL {kl[mine]:.5f}, best {drops_name(best)} {kl[best]:.5f}",
        flush=True,
    )


def refitted_loop(base, tokens, fitted_to, judged, once):
    for count in (4, 8):
        plain, loop = without(NOTHING, once[:count]), on_refitted(base, tokens, fitted_to, count)
        found = []
        for drops in (plain, loop):
            own = LayeredModel(refit(base, drops, fitted_to), **SIZES, placement="resident")
            found.append(base.kl([drops], judged, own)[drops])
        dropped = base.kl([plain], judged)[plain]
        print(
            f"joint-{count}: held-out KL {dropped.mean():.4f}, then refitted {found[0].mean():.4f}, chosen on the "
            f"refitted {found[1].mean():.4f}; the last less the one before {interval(found[1], found[0])}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--refit-samples", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    calibration = token_ids(DEMO_FOLDER / "calibration.jsonl", max(options.samples, options.refit_samples))
    # From all parts of the text.
    tokens, fitted_to = calibration[:: len(calibration) // options.samples], calibration[: options.refit_samples]
    judged = token_ids(DEMO_FOLDER / "heldout.jsonl", JUDGED)
    base = Counted()
    narrow, once = search_and_compare(base, tokens, judged)
    exhaustive_pairs(base, tokens, narrow)
    refitted_loop(base, tokens, fitted_to, judged, once)


if __name__ == "__main__":
    main()
