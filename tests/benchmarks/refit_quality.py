"""What refitting brings back on the demo, and what it costs.

    python tests/benchmarks/refit_quality.py [--samples 128] [--text calibration.jsonl]

KL to the base per token on the demo's held-out text, in float64 by transformers' own modules, of plans as dropped and
refitted with a fixed and with a chosen ridge. Seconds are of CPU, on one thread, and are also given in forward passes
of the base over the same samples. Targets: at least half of the KL of attention-4 and block-2 comes back; at most 3.5
forward passes with a fixed ridge; attention-4 takes less than 20 s.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from drop_ray.calibration import packing
from drop_ray.config.section import DEMO_FOLDER
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.location import load_tokenizer
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import RefitSettings

# As the demo's plans drop them.
PLANS = {
    "attention-1": DropLists((11,)),
    "attention-4": DropLists((2, 7, 10, 11)),
    "block-2": DropLists((2, 7), (2, 7)),
}
SEQ_LEN, HELD_OUT, JUDGED = 256, 8, 40


def token_ids(file, num_samples):
    tokenizer = load_tokenizer(DEMO_FOLDER / "model")
    documents = [json.loads(line)["text"] for line in Path(file).read_text().splitlines()]
    tokenize = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
    packed = packing.pack(documents, tokenize, tokenizer.eos_token_id, num_samples, SEQ_LEN, field=str(file))
    return torch.from_numpy(packed).long()


@torch.no_grad()
def log_probabilities(model, drops, tokens):
    state = model.model.embed_tokens(tokens)
    positions = model.model.rotary_emb(state, torch.arange(tokens.shape[1])[None])
    for index, layer in enumerate(model.model.layers):
        if index not in drops.attn:
            state = state + layer.self_attn(layer.input_layernorm(state), positions, None)[0]
        if index not in drops.mlp:
            state = state + layer.mlp(layer.post_attention_layernorm(state))
    return model.lm_head(model.model.norm(state)).log_softmax(-1)


def divergences(base, model, drops, tokens):
    """KL(base || model) per token of each sample."""
    pairs = (
        (log_probabilities(base, DropLists(), part), log_probabilities(model, drops, part)) for part in tokens.split(4)
    )
    return torch.cat([(expected.exp() * (expected - found)).sum(-1).mean(1) for expected, found in pairs])


@torch.no_grad()
def refitted(base, drops, samples, ridge):
    """A copy of the model as drop_ray refits it."""
    checkpoint, model = open_checkpoint(DEMO_FOLDER / "model"), copy.deepcopy(base)
    held_out = range(len(samples) - HELD_OUT, len(samples))
    refitting = Refitting(checkpoint, samples, held_out, RefitSettings(ridge, 4, torch.float32, "sdpa"))
    refitting.add(checkpoint, drops)
    weights = model.state_dict()
    for _, fit in refitting.layers():
        for name, tensor in fit.tensors.items():
            weights[name].copy_(tensor)
    return model


def mean(values):
    return f"{values.mean():.4f} +- {values.std() / math.sqrt(len(values)):.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--text", default=str(DEMO_FOLDER / "calibration.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = DEMO_FOLDER / "model"
    samples, judged = token_ids(options.text, options.samples), token_ids(DEMO_FOLDER / "heldout.jsonl", JUDGED)
    base = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    single = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        started = time.process_time()
        for part in samples.split(4):
            single.model(part, use_cache=False)
        forward = time.process_time() - started
    for name, drops in PLANS.items():
        dropped = divergences(base, base, drops, judged)
        print(f"{name}: KL {mean(dropped)}", flush=True)
        for ridge in (0.1, None):
            started = time.process_time()
            model = refitted(base, drops, samples, ridge)
            seconds = time.process_time() - started
            found = divergences(base, model, drops, judged)
            print(
                f"  ridge {ridge or 'auto'}: KL {mean(found)}, {100 * (1 - found.mean() / dropped.mean()):.0f} % back, "
                f"paired difference {mean(found - dropped)}; {seconds:.1f} s, {seconds / forward:.2f} forward passes",
                flush=True,
            )


if __name__ == "__main__":
    main()
