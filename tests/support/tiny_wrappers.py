"""Tiny multimodal checkpoints of the real classes, as transformers writes them to the hub, and an image with text."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import Silenced, make_tokenizer

from drop_ray.models.sublayers import find_layers, is_norm, sublayer_names

LAYERS = 4
IMAGE = 290
TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
# A tower has as many layers as the decoder, which must not be taken for it.
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
QWEN_TOWER = {
    "depth": LAYERS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "temporal_patch_size": 1,
}
QWEN_TOKENS = {"image_token_id": IMAGE, "video_token_id": 291, "vision_start_token_id": 292, "vision_end_token_id": 293}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "rope_parameters": {**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0},
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}


@dataclass(frozen=True)
class TinyWrapper:
    """One wrapper of transformers."""

    architecture: str
    """Its class."""
    text: dict[str, Any]
    """Fields of its language model that are not those of all."""
    tower: dict[str, Any]
    """Fields of its vision tower."""
    image: Any
    """Makes what the class takes beside the tokens of one image of 8 x 8 pixels, and the number of its tokens."""
    outer: dict[str, Any] = field(default_factory=dict)
    """Fields of the wrapper itself."""


def _pixels(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def _square(tokens):
    return lambda: ({"pixel_values": _pixels(1, 3, 8, 8)}, tokens)


def _sized():
    """4 x 2 patches, of which every 2 x 2 are one token."""
    return {"pixel_values": _pixels(1, 3, 16, 8), "image_sizes": torch.tensor([[16, 8]])}, 2


def _grid():
    """A grid of 4 x 4 patches, of which every 2 x 2 are one token."""
    return {"pixel_values": _pixels(16, 3 * 4 * 4), "image_grid_thw": torch.tensor([[1, 4, 4]])}, 4


def _patches():
    """4 patches, of which all are one token."""
    places = torch.tensor([[[0, 0], [1, 0], [0, 1], [1, 1]]])
    return {"pixel_values": _pixels(1, 4, 3 * 4 * 4).sigmoid(), "image_position_ids": places}, 1


MISTRAL_TOWER = {**TOWER, "image_size": 16, "model_type": "pixtral", "head_dim": 8}
UNTIED = {"tie_word_embeddings": False, "image_token_index": IMAGE}
WINDOWS = ["sliding_attention", "full_attention"]
GEMMA_4 = {
    "sliding_window": 16,
    "layer_types": WINDOWS * 2,
    "vocab_size_per_layer_input": 300,
    "hidden_size_per_layer_input": 4,
    "global_head_dim": 8,
    "num_kv_shared_layers": 0,
}
GEMMA_4_TOWER = {
    **TOWER,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pooling_kernel_size": 2,
    "position_embedding_size": 8,
}
GEMMA_4_TOKENS = {"image_token_id": IMAGE, "video_token_id": 291, "boi_token_id": 294, "eoi_token_id": 295}
SHARED = {"num_kv_shared_layers": 2, "num_hidden_layers": 6, "layer_types": WINDOWS * 3}
WRAPPED = {
    "gemma3": TinyWrapper(
        "Gemma3ForConditionalGeneration",
        {"sliding_window": 16, "layer_types": WINDOWS * 2},
        TOWER,
        _square(4),
        {"mm_tokens_per_image": 4, "image_token_index": IMAGE},
    ),
    "gemma4": TinyWrapper("Gemma4ForConditionalGeneration", GEMMA_4, GEMMA_4_TOWER, _patches, GEMMA_4_TOKENS),
    "gemma4 with shared keys": TinyWrapper(
        "Gemma4ForConditionalGeneration",
        {
            **GEMMA_4,
            "num_kv_shared_layers": 2,
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
        },
        GEMMA_4_TOWER,
        _patches,
        GEMMA_4_TOKENS,
    ),
    "mistral3": TinyWrapper(
        "Mistral3ForConditionalGeneration", {"model_type": "mistral"}, MISTRAL_TOWER, _sized, UNTIED
    ),
    "ministral3": TinyWrapper(
        "Mistral3ForConditionalGeneration", {"model_type": "ministral3"}, MISTRAL_TOWER, _sized, UNTIED
    ),
    "mistral4": TinyWrapper(
        "Mistral3ForConditionalGeneration", {"model_type": "mistral4", **LATENT}, MISTRAL_TOWER, _sized, UNTIED
    ),
    "qwen2_5_vl": TinyWrapper(
        "Qwen2_5_VLForConditionalGeneration",
        {"rope_parameters": MROPE},
        {**QWEN_TOWER, "window_size": 16, "fullatt_block_indexes": [1]},
        _grid,
        QWEN_TOKENS,
    ),
    "qwen3_vl": TinyWrapper(
        "Qwen3VLForConditionalGeneration",
        {"rope_parameters": {**MROPE, "mrope_interleaved": True}},
        {**QWEN_TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]},
        _grid,
        QWEN_TOKENS,
    ),
    "qwen3_5": TinyWrapper(
        "Qwen3_5ForConditionalGeneration", LINEAR, {**QWEN_TOWER, "num_position_embeddings": 16}, _grid, QWEN_TOKENS
    ),
    "qwen3_5_moe": TinyWrapper(
        "Qwen3_5MoeForConditionalGeneration",
        {**LINEAR, **EXPERTS},
        {**QWEN_TOWER, "num_position_embeddings": 16},
        _grid,
        QWEN_TOKENS,
    ),
    "llama4": TinyWrapper(
        "Llama4ForConditionalGeneration",
        {
            "intermediate_size_mlp": 64,
            "num_local_experts": 2,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 64,
        },
        {
            **TOWER,
            "intermediate_size": 64,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "pixel_shuffle_ratio": 0.5,
        },
        _square(1),
        {"image_token_index": IMAGE},
    ),
}


def make_wrapper(name, seed=0, text=None, tower=None):
    """A model in float32 whose sub-layers all matter; `text` and `tower`: more fields of these parts."""
    tiny = WRAPPED[name]
    model_class = getattr(transformers, tiny.architecture)
    fields = {"text_config": {**TEXT, **tiny.text, **(text or {})}, "vision_config": {**tiny.tower, **(tower or {})}}
    config = model_class.config_class(**fields, **tiny.outer)
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.1))
            if parameter.dim() == 1:
                parameter.add_(1)
    return model


def write_wrapper(folder: Path, name, shard_size="64KB") -> Path:
    """The checkpoint, with a tokenizer and a processor's settings."""
    make_wrapper(name).save_pretrained(folder, max_shard_size=shard_size)
    make_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Gemma3ImageProcessor"}))
    (folder / "LICENSE").write_text("the licence of the base model\n")
    return folder


def image_and_text(name) -> dict[str, torch.Tensor]:
    """Tokens with one image among them, as the class takes them."""
    inputs, count = WRAPPED[name].image()
    ids = torch.tensor([[7, 9, 292, *[IMAGE] * count, 293, 11, 42, 77, 5]])
    kinds = (ids == IMAGE).int()
    types = {"token_type_ids": kinds} if name == "gemma3" else {}
    if "qwen" in name or "gemma4" in name:
        types["mm_token_type_ids"] = kinds
    return {"input_ids": ids, **types, **inputs}


def outputs(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def silenced(model, drops):
    """The full wrapper with the contributions of the dropped sub-layers multiplied by zero, no code of ours."""
    layers = find_layers(model)
    for kind, indices in (("attention", drops.attn), ("mlp", drops.mlp)):
        for layer in (layers[index] for index in indices):
            for part in (part for part in sublayer_names(layer)[kind] if not is_norm(part)):
                setattr(layer, part, Silenced(getattr(layer, part)))
    return model
