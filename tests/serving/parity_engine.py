"""One family's engines, one after the other in this process, and what transformers says to the same prompts.

Started by parity.py with a JSON list: architecture, patterns, forms, arguments of vllm.LLM, a folder for the results.
"""

import gc
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from parity import NUM_LAYERS, PATTERNS, Parity
from tiny_models import token_ids, write_checkpoint

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.loading import load_model

# vLLM's attention on CPU has heads of 32 and more.
WIDTHS = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32}
NORMALISED = {**WIDTHS, "query_pre_attn_scalar": 32}
LATENT = {
    "hidden_size": 128,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 64,
    "v_head_dim": 32,
}
OVERRIDES = {
    "Gemma2ForCausalLM": NORMALISED,
    "Gemma3ForCausalLM": NORMALISED,
    "DeepseekV2ForCausalLM": LATENT,
    # Fields of the released config.json that transformers does not use, and vLLM does.
    "DeepseekV3ForCausalLM": {**LATENT, "topk_method": "noaux_tc", "scoring_func": "sigmoid"},
}
PROMPTS = token_ids(4, 24).tolist()
NEW_TOKENS = 16
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 128,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 128,
    "kv_cache_memory_bytes": 2**26,
    "distributed_executor_backend": "uni",
}
# On CPU, vLLM's fast latent attention knows no float32, and its rotary kernel is wrong for interleaved positions.
LATENT_REMEDY = {"attention_backend": "CPU_MLA", "compilation_config": {"custom_ops": ["-rotary_embedding"]}}
CPU_REMEDIES = {"DeepseekV2ForCausalLM": LATENT_REMEDY, "DeepseekV3ForCausalLM": LATENT_REMEDY}


@dataclass(frozen=True)
class Expected:
    """What transformers makes of the prompts: greedy tokens; log-probabilities of all prompt tokens but the first."""

    tokens: list[list[int]]
    logprobs: list[list[float]]


def measure(architecture, patterns, forms, engine, folder: Path) -> list[Parity]:
    """One engine after the other, in this process."""
    base = write_base(folder / "base", architecture)
    checkpoint = open_checkpoint(base)
    expected = {}
    for pattern in patterns:
        for form in {"dropped", *forms} - {"hf_overrides"}:
            export_checkpoint(checkpoint, PATTERNS[pattern], folder / form / pattern, format=form)
        # Before the first engine: vLLM's backend changes transformers' model classes for the rest of the process.
        expected[pattern] = run_transformers(folder / "dropped" / pattern)
    results = []
    for pattern in patterns:
        for form in forms if pattern != "nothing" else forms[:1]:
            served, arguments = folder / form / pattern, dict(engine)
            if form == "hf_overrides":
                drops = PATTERNS[pattern]
                served = base
                arguments["hf_overrides"] = {"drop_attn_list": list(drops.attn), "drop_mlp_list": list(drops.mlp)}
            results.append(compare(architecture, pattern, form, served, expected[pattern], arguments))
    return results


def write_base(folder: Path, architecture: str) -> Path:
    return write_checkpoint(folder, architecture, num_layers=NUM_LAYERS, **OVERRIDES.get(architecture, WIDTHS))


def run_transformers(folder: Path) -> Expected:
    model = load_model(folder, dtype=torch.float32)
    return Expected(
        [greedy(model, prompt) for prompt in PROMPTS], [prompt_logprobs(model, prompt) for prompt in PROMPTS]
    )


def compare(architecture, pattern, form, folder: Path, expected: Expected, engine) -> Parity:
    """Serve `folder` in this process; `engine`: more arguments of vllm.LLM."""
    from vllm import LLM

    llm = LLM(model=str(folder), **{**ENGINE, **CPU_REMEDIES.get(architecture, {}), **engine})
    outputs = generate(llm)
    without_attention, without_mlp = (
        sorted(set.union(*of_ranks)) for of_ranks in zip(*llm.apply_model(layers_without), strict=True)
    )
    cache = llm.llm_engine.vllm_config.cache_config
    differences = [
        abs(entry[token].logprob - logprob)
        for prompt, output, logprobs in zip(PROMPTS, outputs, expected.logprobs, strict=True)
        for token, entry, logprob in zip(prompt[1:], output.prompt_logprobs[1:], logprobs, strict=True)
    ]
    result = Parity(
        architecture,
        pattern,
        form,
        greedy_equal=[list(output.outputs[0].token_ids) for output in outputs] == expected.tokens,
        difference=max(differences),
        without_attention=without_attention,
        without_mlp=without_mlp,
        kv_tokens=cache.kv_cache_size_tokens,
        block_size=cache.block_size,
    )
    del llm
    gc.collect()
    return result


def layers_without(model) -> tuple[set[int], set[int]]:
    """The layers of this rank whose attention, and whose MLP, is a module with nothing in it."""
    layers = {index: layer for index, layer in enumerate(model.model.layers) if hasattr(layer, "self_attn")}
    attentions = {index: layer.self_attn for index, layer in layers.items()}
    mlps = {index: getattr(layer, "mlp", None) or layer.block_sparse_moe for index, layer in layers.items()}
    return tuple(
        {index for index, module in modules.items() if not list(module.children())} for modules in (attentions, mlps)
    )


def generate(llm):
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, prompt_logprobs=0)
    return llm.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], sampling, use_tqdm=False)


def greedy(model, prompt: list[int]) -> list[int]:
    model.generation_config.eos_token_id = None  # vLLM too is asked to go on after it
    generated = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False)
    return generated[0, len(prompt) :].tolist()


def prompt_logprobs(model, prompt: list[int]) -> list[float]:
    """Of each token but the first, given those before it."""
    ids = torch.tensor(prompt)
    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids[None]).logits[0, :-1].float(), dim=-1)
    return logprobs.gather(1, ids[1:, None])[:, 0].tolist()


if __name__ == "__main__":
    *arguments, folder = json.loads(sys.argv[1])
    results = measure(*arguments, Path(folder))
    (Path(folder) / "results.json").write_text(json.dumps([asdict(result) for result in results]))
