"""What benchmarks of processor time have in common: options, a random Llama on one thread, and a clock."""

import argparse
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def options_of(description, hidden, layers, vocabulary, rounds):
    """The command line's options, with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in (("hidden", hidden), ("layers", layers), ("vocabulary", vocabulary), ("rounds", rounds)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def make_llama(options):
    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=options.hidden // 128,
        vocab_size=options.vocabulary,
    )
    return LlamaForCausalLM(config).eval()


def processor_seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start
