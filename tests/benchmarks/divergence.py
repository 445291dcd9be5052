"""What divergence panels take, in bare forward passes of the base over the same text, logits included.

    python tests/benchmarks/divergence.py [--hidden 512] [--layers 12] [--vocabulary 8000] [--rounds 3]

One process, one thread, float32, the cases in turn in every round; ratios are of processor time, and taken round by
round. Targets: at most 2 for one variant, whatever it lacks (two whole forwards are 2.0, without comparing anything);
less than one more for each further variant of a share.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from timed_llama import make_llama, options_of, processor_seconds

from drop_ray.evaluation.divergence.state_models import LayeredModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists

MICRO_BATCH = 2


def bare_forward(model, ids):
    with torch.inference_mode():
        for batch in ids.split(MICRO_BATCH):
            model(batch, use_cache=False)


def panels(model, ids, plans):
    variants = {str(index): Compared(model, drops) for index, drops in enumerate(plans)}
    compare_with_base(Compared(model, DropLists()), variants, ids, DivergenceSettings(MICRO_BATCH))


def plans_of(layers):
    """Twelve plans as a run has them: attention and MLPs from the back, blocks, and some at the front."""
    last = [*range(layers)][::-1]
    attention = [DropLists(tuple(last[:count])) for count in (1, 2, 4, 6, 8)]
    mlp = [DropLists((), tuple(last[:count])) for count in (2, 4)]
    blocks = [DropLists(tuple(part), tuple(part)) for part in (last[:2], last[2:4], last[4:6])]
    return [*attention, *mlp, *blocks, DropLists((0, 2, 4)), DropLists((), (1, 3))]


def main():
    options = options_of(__doc__, hidden=512, layers=12, vocabulary=8000, rounds=3)
    model = make_llama(options)
    ids = torch.randint(0, options.vocabulary, (4, 256))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        checkpoint = open_checkpoint(Path(folder))
        resident, streamed = (
            LayeredModel(checkpoint, dtype=torch.float32, attn_implementation="sdpa", placement=placement)
            for placement in ("resident", "streamed")
        )
        plans, last = plans_of(options.layers), options.layers - 1
        cases = {
            "bare forward": lambda: bare_forward(model, ids),
            "one, last attention": lambda: panels(resident, ids, [DropLists((last,))]),
            "one, middle block": lambda: panels(resident, ids, [DropLists((last // 2,), (last // 2,))]),
            "one, first attention": lambda: panels(resident, ids, [DropLists((0,))]),
            "one, first, streamed": lambda: panels(streamed, ids, [DropLists((0,))]),
            "twelve in one share": lambda: panels(resident, ids, plans),
        }
        for work in cases.values():
            work()
        rounds = [{name: processor_seconds(work) for name, work in cases.items()} for _ in range(options.rounds)]
    for name in cases:
        ratios = sorted(measured[name] / measured["bare forward"] for measured in rounds)
        absolute = statistics.median(measured[name] for measured in rounds)
        spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:22} {absolute:7.2f} s  {statistics.median(ratios):.2f} forwards {spread}", flush=True)


if __name__ == "__main__":
    main()
