"""What KL of every attention and MLP by leave-one-out takes, in bare forward passes of the base over the same text.

    python tests/benchmarks/leave_one_out.py [--hidden 512] [--layers 12] [--vocabulary 2000] [--rounds 3]

One process, one thread, float32. Layers: passes of sub-layers through the layers, counted by hooks; the target is at
most 0.55 L forwards for L sub-layers. Processor time has the output layers and the comparisons in it, one of each for
every candidate, which no sharing saves: they are told apart, and their part falls with the depth and the width of a
model and rises with its vocabulary. Ratios are taken round by round.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from timed_llama import make_llama, options_of, processor_seconds

from drop_ray.evaluation.divergence.dealing import PassCosts
from drop_ray.evaluation.divergence.state_models import LayeredModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists

MICRO_BATCH, TOKENS = 2, (4, 256)


def candidates(layers):
    """Every attention and every MLP by itself."""
    attention, mlp = ([DropLists((layer,)) for layer in range(layers)], [DropLists((), (n,)) for n in range(layers)])
    return [*attention, *mlp]


def compared(model, ids, drops):
    variants = {str(index): Compared(model, lists) for index, lists in enumerate(drops)}
    compare_with_base(Compared(model, DropLists()), variants, ids, DivergenceSettings(MICRO_BATCH))


def states_alone(model, ids, drops):
    """The layers without output layers and comparisons."""
    for batch in ids.split(MICRO_BATCH):
        model.states([batch], [DropLists(), *drops], lambda: None)


def bare(model, ids, with_head=True):
    with torch.inference_mode():
        for batch in ids.split(MICRO_BATCH):
            (model if with_head else model.model)(batch, use_cache=False)


def counted(model, ids, drops):
    """Sub-layer passes of one micro-batch."""
    calls = []
    hooks = [
        getattr(layer, name).register_forward_hook(lambda *_: calls.append(1))
        for layer in model._model.base_model.layers
        for name in ("self_attn", "mlp")
    ]
    states_alone(model, ids[:MICRO_BATCH], drops)
    for hook in hooks:
        hook.remove()
    return len(calls)


def main():
    options = options_of(__doc__, hidden=512, layers=12, vocabulary=2000, rounds=3)
    whole = make_llama(options)
    ids, drops = torch.randint(0, options.vocabulary, TOKENS), candidates(options.layers)
    number = len(drops)
    with tempfile.TemporaryDirectory() as folder:
        whole.save_pretrained(folder)
        model = LayeredModel(
            open_checkpoint(Path(folder)), dtype=torch.float32, attn_implementation="sdpa", placement="resident"
        )
    passes, costs = counted(model, ids, drops), PassCosts((1,) * options.layers, (1,) * options.layers, 0)
    assert passes == costs.work(drops, DropLists()), "what the shares are dealt by is what is computed"
    forwards = passes / (2 * options.layers)
    print(f"{number} candidates: {passes} sub-layer passes = {forwards:.1f} forwards = {forwards / number:.3f} L")
    cases = {
        "forward": lambda: bare(whole, ids),
        "forward without head": lambda: bare(whole, ids, with_head=False),
        "leave-one-out, layers": lambda: states_alone(model, ids, drops),
        "leave-one-out, all": lambda: compared(model, ids, drops),
    }
    cases["forward"]()
    rounds = [{name: processor_seconds(work) for name, work in cases.items()} for _ in range(options.rounds)]
    for name, of in (("leave-one-out, layers", "forward without head"), ("leave-one-out, all", "forward")):
        ratios = sorted(measured[name] / measured[of] / number for measured in rounds)
        absolute = statistics.median(measured[name] for measured in rounds)
        print(f"{name:22} {absolute:7.2f} s  {statistics.median(ratios):.3f} L forwards ({of}), {ratios}", flush=True)


if __name__ == "__main__":
    main()
