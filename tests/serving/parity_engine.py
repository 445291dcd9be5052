"""The engines of families, one after the other in this process, and what transformers says to the same prompts.

Started by parity.py with a JSON list: architectures, cases, arguments of vllm.LLM, a folder for the results.
"""

import gc
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from parity import NUM_LAYERS, PATTERNS, Parity
from quantized_bases import write_quantized_base
from tiny_models import token_ids, write_checkpoint
from torch import nn

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.loading import load_model
from drop_ray.models.sublayers import is_norm, sublayer_names

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
MAMBA2 = {**WIDTHS, "mamba_d_head": 64, "mamba_d_state": 16}
LINEAR = {**WIDTHS, "linear_key_head_dim": 64, "linear_value_head_dim": 64}
OVERRIDES = {
    "Gemma2ForCausalLM": NORMALISED,
    "Gemma3ForCausalLM": NORMALISED,
    "DeepseekV2ForCausalLM": LATENT,
    "DeepseekV3ForCausalLM": LATENT,
    "Glm4MoeLiteForCausalLM": LATENT,
    # vLLM's window is one token wider: no text is as long.
    "Cohere2ForCausalLM": {**WIDTHS, "sliding_window": 64},
    "GPT2LMHeadModel": {**WIDTHS, "num_key_value_heads": 4},
    "GPTNeoXForCausalLM": {**WIDTHS, "num_key_value_heads": 4},
    "GraniteMoeHybridForCausalLM": MAMBA2,
    "FalconH1ForCausalLM": {**MAMBA2, "mamba_d_ssm": 256},
    "JambaForCausalLM": {**WIDTHS, "mamba_d_state": 16},
    "Lfm2ForCausalLM": {**WIDTHS, "tie_word_embeddings": True},
    "Lfm2MoeForCausalLM": {**WIDTHS, "tie_word_embeddings": True},
    "Qwen3NextForCausalLM": LINEAR,
    # Its experts are not for CPUs.
    "NemotronHForCausalLM": {
        **WIDTHS,
        "mamba_head_dim": 64,
        "ssm_state_size": 16,
        "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"],
    },
}
# Fields of the released config.json that transformers does not use, and vLLM does.
RELEASED = {
    "DeepseekV3ForCausalLM": {"topk_method": "noaux_tc", "scoring_func": "sigmoid"},
    "MiniMaxM2ForCausalLM": {"rotary_dim": 16, "scoring_func": "sigmoid", "use_routing_bias": True},
    "Lfm2ForCausalLM": {"conv_dim": 128, "block_dim": 128},
    "AfmoeForCausalLM": {"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1},
    "MiMoV2FlashForCausalLM": {
        "hybrid_layer_pattern": [1, 0, 1, 1],
        "moe_layer_freq": [0, 1, 1, 1],
        "layernorm_epsilon": 1e-5,
        "rope_theta": 5e6,
        "swa_rope_theta": 1e4,
        "partial_rotary_factor": 0.334,
        "sliding_window_size": 16,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_head_dim": 32,
        "swa_v_head_dim": 32,
        "v_head_dim": 32,
        "add_swa_attention_sink_bias": True,
    },
    "HYV3ForCausalLM": {"first_k_dense_replace": 1, "expert_hidden_dim": 16, "route_norm": True, "qk_norm": True},
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
# On CPU, vLLM's rotary kernel is wrong where heads have a dimension of their own: for full models too.
ROTARY_REMEDY = {"compilation_config": {"custom_ops": ["-rotary_embedding"]}}
# There its fast latent attention knows no float32.
LATENT_REMEDY = {"attention_backend": "CPU_MLA", **ROTARY_REMEDY}
# There its gated delta rule, and FP8 on every device, are for 16 bits only.
LINEAR_LAYERS = {0, 2}
CPU_REMEDIES = {
    "DeepseekV2ForCausalLM": LATENT_REMEDY,
    "DeepseekV3ForCausalLM": LATENT_REMEDY,
    "Glm4MoeLiteForCausalLM": LATENT_REMEDY,
    "Lfm2ForCausalLM": ROTARY_REMEDY,
    "Lfm2MoeForCausalLM": ROTARY_REMEDY,
}


@dataclass(frozen=True)
class Expected:
    """What transformers makes of the prompts: greedy tokens; log-probabilities of all prompt tokens but the first."""

    tokens: list[list[int]]
    logprobs: list[list[float]]


def measure(architectures, cases, engine, folder: Path) -> list[Parity]:
    """One engine after the other, in this process."""
    # Before the first engine: vLLM's backend changes transformers' model classes for the rest of the process.
    expected = {name: write_models(folder / name, name, cases) for name in architectures}
    choose_experts_by_a_sigmoid()
    multiply_blocks_of_fp8()
    results = []
    for name in architectures:
        if len(architectures) > 1:
            register_now(name.partition("/")[0])
        for pattern, form in cases:
            served, arguments = folder / name / form / pattern, dict(engine)
            if form == "hf_overrides":
                drops = PATTERNS[pattern]
                served = folder / name / "base"
                arguments["hf_overrides"] = {"drop_attn_list": list(drops.attn), "drop_mlp_list": list(drops.mlp)}
            results.append(compare(name, pattern, form, served, expected[name][pattern], arguments))
    return results


def register_now(architecture: str) -> None:
    """Register the classes of a family themselves: of a name, vLLM inspects the class in one more process."""
    from vllm import ModelRegistry
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    for name in (architecture, f"Dropped{architecture}"):
        if entry := ModelRegistry.models.get(name):
            ModelRegistry.register_model(name, entry.load_model_cls())


def multiply_blocks_of_fp8() -> None:
    """Give vLLM a kernel for FP8 in blocks that every CPU runs: its own needs AMX. Loading is vLLM's own."""
    from vllm.model_executor.kernels import linear
    from vllm.model_executor.kernels.linear.scaled_mm.BlockScaledMMLinearKernel import Fp8BlockScaledMMLinearKernel
    from vllm.platforms import PlatformEnum

    class Blocks(Fp8BlockScaledMMLinearKernel):
        @classmethod
        def is_supported(cls, _=None):
            return True, None

        @classmethod
        def can_implement(cls, _):
            return True, None

        def process_weights_after_loading(self, layer):
            pass

        def apply_weights(self, layer, x, bias=None, **kwargs):
            rows, columns = layer.weight.shape
            height, width = self.weight_group_shape
            scales = layer.weight_scale_inv.repeat_interleave(height, 0)[:rows]
            scales = scales.repeat_interleave(width, 1)[:, :columns]
            return nn.functional.linear(x, (layer.weight.float() * scales).to(x.dtype), bias)

        def apply_block_scaled_mm(self, **kwargs):
            raise NotImplementedError

    linear._POSSIBLE_FP8_BLOCK_KERNELS[PlatformEnum.CPU] = [Blocks]


def choose_experts_by_a_sigmoid() -> None:
    """On CPU, vLLM's router knows one for groups of experts only (MiniMax M2): one group of all is the same."""
    from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter

    routed = CPURouter._compute_routing

    def in_one_group(self, *args, **kwargs):
        if self.scoring_func == "sigmoid" and not self.use_grouped_topk:
            self.use_grouped_topk, self.num_expert_group, self.topk_group = True, 1, 1
        return routed(self, *args, **kwargs)

    CPURouter._compute_routing = in_one_group


def write_models(folder: Path, name: str, cases) -> dict[str, Expected]:
    """The base and its dropped checkpoints; what transformers makes of each pattern is returned."""
    architecture, _, stored = name.partition("/")
    fields = {"num_layers": NUM_LAYERS, **OVERRIDES.get(architecture, WIDTHS), **RELEASED.get(architecture, {})}
    if stored:
        write_quantized_base(folder / "base", stored, architecture, **fields)
    else:
        write_checkpoint(folder / "base", architecture, **fields)
    checkpoint = open_checkpoint(folder / "base")
    expected = {}
    for pattern, form in cases:
        for each in {"dropped", form} - {"hf_overrides"}:
            if not (folder / each / pattern).exists():
                export_checkpoint(checkpoint, PATTERNS[pattern], folder / each / pattern, format=each)
        if pattern not in expected:
            expected[pattern] = run_transformers(folder / "dropped" / pattern)
    return expected


def run_transformers(folder: Path) -> Expected:
    model = load_model(folder, dtype=torch.float32)
    return Expected(
        [greedy(model, prompt) for prompt in PROMPTS], [prompt_logprobs(model, prompt) for prompt in PROMPTS]
    )


def compare(architecture, pattern, form, folder: Path, expected: Expected, engine) -> Parity:
    """Serve `folder` in this process; `engine`: more arguments of vllm.LLM."""
    from vllm import LLM

    arguments = {**ENGINE, **CPU_REMEDIES.get(architecture, {}), **engine}
    has_delta_rule = architecture == "Qwen3NextForCausalLM" and not {*PATTERNS[pattern].attn} >= LINEAR_LAYERS
    if has_delta_rule or "/" in architecture:
        arguments["dtype"] = "bfloat16"
    llm = LLM(model=str(folder), **arguments)
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
        is_exact=arguments["dtype"] == "float32",
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
    """The layers of this rank whose token mixer, and whose MLP, is modules with nothing in them."""
    without: dict[str, set[int]] = {"attention": set(), "mlp": set()}
    layers = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == NUM_LAYERS)
    for index, layer in enumerate(layers):
        for sublayer, names in sublayer_names(layer).items():
            parts = [getattr(layer, name) for name in names if not is_norm(name)]
            if parts and all(is_empty(part) for part in parts):
                without[sublayer].add(index)
    return without["attention"], without["mlp"]


def is_empty(part) -> bool:
    """Jamba's attention is a module that has a cache only."""
    return not [*part.children(), *part.parameters()] and not hasattr(part, "kv_cache")


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
