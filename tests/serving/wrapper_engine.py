"""Tiny wrappers without some sub-layers, served by vLLM and run by transformers, on text and on an image with text.

Started by test_wrappers_in_vllm.py with names of tiny wrappers and a folder for the results.
"""

import gc
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from parity_engine import register_now
from safetensors.torch import load_file, save_file
from tiny_processors import SIZES, image_of, placeholder, write_processor
from tiny_wrappers import MROPE, WRAPPED, make_wrapper
from transformers import AutoModelForImageTextToText, AutoProcessor

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists

NEW_TOKENS = 12
DROPS = {"dropped": DropLists((1,), (2, 3)), "hf_overrides": DropLists((0, 1), (1,))}
# The linear attention of vLLM on a CPU is for 16 bits only.
NO_LINEAR = {"dropped": DropLists((0, 2), (1,)), "hf_overrides": DropLists((0, 2), (3,))}
OWN_DROPS = {"qwen3_5": NO_LINEAR, "qwen3_5_moe": NO_LINEAR}
# Tokens of an image see each other, which vLLM leaves out on a CPU: transformers does too without these inputs.
CAUSAL_ON_CPU = {"gemma3": ("token_type_ids",)}
TEXTS = ["a plain sentence", "of two prompts, one"]
# vLLM's attention on CPU has heads of 32 and more.
WIDTHS = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32}
WIDE_MROPE = {**MROPE, "mrope_section": [8, 4, 4]}
LINEAR_WIDTHS = {
    **WIDTHS,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "rope_parameters": {**WIDE_MROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
}
FIELDS = {
    "gemma3": {**WIDTHS, "query_pre_attn_scalar": 32},
    "gemma4": {**WIDTHS, "global_head_dim": 32},
    "gemma4 with shared keys": {**WIDTHS, "global_head_dim": 32},
    "qwen2_5_vl": {**WIDTHS, "rope_parameters": WIDE_MROPE},
    "qwen3_vl": {**WIDTHS, "rope_parameters": {**WIDE_MROPE, "mrope_interleaved": True}},
    "qwen3_5": LINEAR_WIDTHS,
    "qwen3_5_moe": {**LINEAR_WIDTHS, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "llama4": {**WIDTHS, "intermediate_size_mlp": 128, "attention_chunk_size": 128},
}
# The processor of Gemma 4 makes no image smaller than 70 tokens.
GEMMA_4_TOWER = {"position_embedding_size": 32, "default_output_length": 70}
TOWERS = {"gemma4": GEMMA_4_TOWER, "gemma4 with shared keys": GEMMA_4_TOWER}
RELEASED_NAMES = {"gemma3": {"vision_tower.": "vision_tower.vision_model."}}
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 128,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 256,
    "kv_cache_memory_bytes": 2**26,
    "distributed_executor_backend": "uni",
    "limit_mm_per_prompt": {"image": 1, "video": 0},
}


def prompts_of(name):
    """Each a text with its images."""
    image = image_of(*SIZES.get(name, (8, 8)))
    return [*((text, []) for text in TEXTS), (f"see {placeholder(name)} there", [image])]


def write_models(folder: Path, name):
    tower = {"out_hidden_size": 128} if "qwen" in name else TOWERS.get(name, {})
    make_wrapper(name, text=FIELDS.get(name, WIDTHS), tower=tower).save_pretrained(folder / "base")
    name_as_released(folder / "base", RELEASED_NAMES.get(name, {}))
    write_processor(folder / "base", name)
    checkpoint = open_checkpoint(folder / "base")
    for pattern, drops in OWN_DROPS.get(name, DROPS).items():
        export_checkpoint(checkpoint, drops, folder / pattern)


def name_as_released(folder: Path, renamed: dict[str, str]):
    """transformers writes some tensors under other names than released checkpoints have, and vLLM knows those alone."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for old, new in renamed.items():
            tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
        save_file(tensors, path, {"format": "pt"})


def run_transformers(folder: Path, name, prompts):
    """Of each prompt: its tokens, the greedy ones after it, log-probabilities of all its tokens but the first."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    found = []
    for text, images in prompts:
        inputs = processor(text=[text], **({"images": images} if images else {}), return_tensors="pt")
        if images:  # those of Llama 4 are in bfloat16
            inputs["pixel_values"] = inputs["pixel_values"].float()
        for given in CAUSAL_ON_CPU.get(name, ()):
            inputs.pop(given, None)
        ids = inputs["input_ids"][0]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(**inputs).logits[0, :-1].float(), dim=-1)
            generated = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0, len(ids) :]
        found.append((ids.tolist(), generated.tolist(), logprobs.gather(1, ids[1:, None])[:, 0].tolist()))
    return found


def make_rows_contiguous():
    """On a CPU, vLLM's linear modules refuse the patches that Llama 4 cuts an image into."""
    from vllm import _custom_ops

    multiply = _custom_ops.onednn_mm
    _custom_ops.onednn_mm = lambda handler, x, bias: multiply(handler, x.contiguous(), bias)


@dataclass(frozen=True)
class Answer:
    """What vLLM made of one prompt, beside what transformers did."""

    name: str
    pattern: str
    num_dropped: int
    """Attention layers that are dropped."""
    num_cached: int
    """Layers of the language model that have a KV cache or a state."""
    has_image: bool
    prompt_equal: bool
    greedy_equal: bool
    difference: float
    """The largest of a prompt token's log-probabilities."""


def serve(folder: Path, prompts, **arguments):
    """vLLM's answers, and the number of layers of the language model with a cache."""
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(folder), **ENGINE, **arguments)
    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, prompt_logprobs=0)
    asked = [{"prompt": text, "multi_modal_data": {"image": images}} for text, images in prompts]
    outputs = llm.generate(asked, sampling, use_tqdm=False)
    cached = llm.llm_engine.vllm_config.compilation_config.static_forward_context
    count = sum("language_model" in name and has_cache(module) for name, module in cached.items())
    del llm
    gc.collect()
    return outputs, count


def has_cache(module) -> bool:
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

    return isinstance(module, AttentionLayerBase)


def compare(folder: Path, name) -> list[Answer]:
    prompts, patterns = prompts_of(name), OWN_DROPS.get(name, DROPS)
    write_models(folder, name)
    register_now(WRAPPED[name].architecture)
    answers = []
    for pattern, drops in patterns.items():
        expected = run_transformers(folder / pattern, name, prompts)
        arguments, served = {}, folder / pattern
        if pattern == "hf_overrides":
            lists = {"drop_attn_list": list(drops.attn), "drop_mlp_list": list(drops.mlp)}
            arguments, served = {"hf_overrides": lists}, folder / "base"
        outputs, num_cached = serve(served, prompts, **arguments)
        for (_, images), output, (ids, tokens, logprobs) in zip(prompts, outputs, expected, strict=True):
            own = [entry[token].logprob for token, entry in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]
            answers.append(
                Answer(
                    name,
                    pattern,
                    len(drops.attn),
                    num_cached,
                    bool(images),
                    prompt_equal=output.prompt_token_ids == ids,
                    greedy_equal=list(output.outputs[0].token_ids) == tokens,
                    difference=max(abs(ours - theirs) for ours, theirs in zip(own, logprobs, strict=True)),
                )
            )
    return answers


if __name__ == "__main__":
    *names, folder = sys.argv[1:]
    make_rows_contiguous()
    results = [asdict(answer) for name in names for answer in compare(Path(folder) / name, name)]
    (Path(folder) / "results.json").write_text(json.dumps(results))
