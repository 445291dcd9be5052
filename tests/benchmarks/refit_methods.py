"""Ways to make up for dropped layers without training, compared with the refit that drop_ray does.

    python tests/benchmarks/refit_methods.py [--samples 128]

KL to the base per token on the demo's held-out text, with 95 % intervals over its samples, and paired differences from
the whole refit. All are fitted to the same calibration samples, on the states of the model as changed so far, and all
that have a ridge choose it from the same grid by the same held-out samples, as `ridge: auto` does:

- mean bias: behind each gap the mean of what is lacking is added, by a hook, since most families have no bias to keep
  it in;
- linear map: the output of the sub-layer before each gap goes through T, which its projection takes up: W becomes W T
  (ReplaceMe: Shopkhoev et al., arXiv 2505.02819);
- projection: the projection before each gap is solved anew;
- whole refit: that one, and all that follow.
"""

import argparse
import copy
import math
from dataclasses import dataclass

import torch
from refit_quality import HELD_OUT, JUDGED, PLANS, divergences, mean, refitted, token_ids
from torch import nn
from transformers import LlamaForCausalLM

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.families import DropLists
from drop_ray.refit.fitting import RIDGES
from drop_ray.refit.order import kept_sublayers
from drop_ray.refit.ridge import NormalEquations

JOINT = {"joint-4": DropLists((11,), (5, 6, 7)), "joint-8": DropLists((7, 11), (3, 4, 5, 6, 7, 8))}
METHODS = ("mean bias", "linear map", "projection")


@dataclass(frozen=True)
class Gap:
    """A kept sub-layer before a run of dropped ones, on the states of the model as changed so far."""

    projection: nn.Linear
    """Its output projection."""
    inputs: torch.Tensor
    """Inputs of the projection, [samples, seq_len, inputs]."""
    missing: torch.Tensor
    """What the state behind the sub-layer lacks against the base's behind the run, [samples, seq_len, hidden_size]."""


def close(gap, method):
    """Change the projection of a gap by that method."""
    if method == "mean bias":
        bias = gap.missing[:-HELD_OUT].flatten(0, 1).mean(0)
        gap.projection.register_forward_hook(lambda _, given, output: output + bias)
        return
    weight = gap.projection.weight
    inputs = gap.inputs if method == "projection" else gap.inputs @ weight.T
    solution = best(inputs, gap.missing)
    if solution is not None:
        # With a map T = I + D of the output a W' the weight becomes W + D' W.
        weight += solution.T if method == "projection" else solution.T.to(weight) @ weight


def best(inputs, missing):
    """The solution with the ridge after which the held-out samples lack least; None where that is none at all."""
    equations = NormalEquations(inputs.shape[-1], missing.shape[-1], bias=False, device="cpu", exact=True)
    fitted, judged = ([part.flatten(0, 1) for part in parts] for parts in _split(inputs, missing))
    equations.add(*fitted)
    found = [(float((judged[1] ** 2).sum()), None)]
    for ridge in sorted(RIDGES, reverse=True):
        solution = equations.solve(ridge, last=False)
        found.append((float(((judged[1] - solution.outputs(judged[0])) ** 2).sum()), solution.weight))
    return min(found, key=lambda pair: pair[0])[1]


def _split(*tensors):
    return [tensor[:-HELD_OUT] for tensor in tensors], [tensor[-HELD_OUT:] for tensor in tensors]


class Passes:
    """The sub-layers of a Llama, one at a time, for all samples."""

    def __init__(self, model, state):
        self.layers, self.state = model.model.layers, state
        self.positions = model.model.rotary_emb(state, torch.arange(state.shape[1])[None])

    def update(self, number):
        """What sub-layer `number` adds to the state, and the inputs of its projection."""
        layer, seen = self.layers[number // 2], []
        projection = layer.mlp.down_proj if number % 2 else layer.self_attn.o_proj
        hook = projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        found = [self._part(layer, number % 2, part) for part in self.state.split(4)]
        hook.remove()
        return projection, torch.cat(found), torch.cat(seen)

    def _part(self, layer, is_mlp, state):
        if is_mlp:
            return layer.mlp(layer.post_attention_layernorm(state))
        return layer.self_attn(layer.input_layernorm(state), self.positions, None)[0]


@torch.no_grad()
def changed(base, drops, samples, method):
    """A copy of the model whose gaps are closed by a method."""
    model = copy.deepcopy(base)
    whole, dropped = (Passes(one, base.model.embed_tokens(samples)) for one in (base, model))
    place = 0
    for sublayer in kept_sublayers(len(model.model.layers), drops):
        projection, update, inputs = dropped.update(sublayer.number)
        while place < sublayer.target:
            whole.state = whole.state + whole.update(place)[1]
            place += 1
        if sublayer.target > sublayer.number + 1:
            close(Gap(projection, inputs, whole.state - dropped.state - update), method)
            update = dropped.update(sublayer.number)[1]
        dropped.state = dropped.state + update
    return model


def interval(values):
    """Mean and 95 % interval, of samples in pairs or not."""
    middle, half = float(values.mean()), 1.96 * float(values.std()) / math.sqrt(len(values))
    return f"{middle:+.4f} ({middle - half:+.4f} to {middle + half:+.4f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = token_ids(DEMO_FOLDER / "calibration.jsonl", options.samples)
    judged = token_ids(DEMO_FOLDER / "heldout.jsonl", JUDGED)
    base = LlamaForCausalLM.from_pretrained(DEMO_FOLDER / "model", dtype=torch.float64).eval()
    single = LlamaForCausalLM.from_pretrained(DEMO_FOLDER / "model", dtype=torch.float32).eval()
    for name, drops in {**PLANS, **JOINT}.items():
        best_of_all = divergences(base, refitted(base, drops, samples, None), drops, judged)
        print(f"{name}:\n  whole refit, auto: KL {mean(best_of_all)}", flush=True)
        others = {"nothing": lambda drops: base, "whole refit, 0.1": lambda drops: refitted(base, drops, samples, 0.1)}
        others |= {
            method: lambda drops, method=method: changed(single, drops, samples, method).double() for method in METHODS
        }
        for label, make in others.items():
            found = divergences(base, make(drops), drops, judged)
            print(
                f"  {label}: KL {mean(found)}, more than the whole refit by {interval(found - best_of_all)}", flush=True
            )


if __name__ == "__main__":
    main()
