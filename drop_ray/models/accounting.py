"""Sizes of a model without its weights: parameters of every sub-layer, KV-cache bytes, floating point operations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.families import DropLists
from drop_ray.models.modeling_dropped import sublayer_names
from drop_ray.models.transformers_private import layer_types


@dataclass(frozen=True)
class ModelSize:
    """Counted once on the skeleton of the base model, so that a plan's savings need no model at all.

    active_parameters: those that one token meets, of a mixture the experts that it is routed to; windows: of each
    layer the tokens that its attention looks back at most, None if all.
    """

    num_layers: int
    parameters: int
    attention_parameters: tuple[int, ...]
    mlp_parameters: tuple[int, ...]
    active_mlp_parameters: tuple[int, ...]
    outside_parameters: int
    hidden_size: int
    kv_bytes_per_layer: int
    windows: tuple[int | None, ...]
    bytes_per_parameter: int
    max_positions: int | None

    def kept_parameters(self, drops: DropLists) -> int:
        dropped = sum(self.attention_parameters[i] for i in drops.attn) + sum(self.mlp_parameters[i] for i in drops.mlp)
        return self.parameters - dropped

    def kv_bytes_per_token(self, drops: DropLists) -> int:
        """What one more token takes in every kept attention layer, as long as no window is full."""
        return self.kv_bytes_per_layer * (self.num_layers - len(drops.attn))

    def kv_bytes(self, drops: DropLists, num_tokens: int) -> int:
        """KV cache of one sequence; a windowed layer holds no more tokens than its window."""
        kept = [window for layer, window in enumerate(self.windows) if layer not in drops.attn]
        return self.kv_bytes_per_layer * sum(min(num_tokens, window or num_tokens) for window in kept)

    def forward_flops(self, drops: DropLists, num_tokens: int, seq_len: int) -> int:
        """2 per weight that a token meets, plus 2 x 2 x seq_len / 2 x hidden for each kept (causal) attention."""
        weights = sum(count for layer, count in enumerate(self.attention_parameters) if layer not in drops.attn)
        weights += sum(count for layer, count in enumerate(self.active_mlp_parameters) if layer not in drops.mlp)
        attention = (self.num_layers - len(drops.attn)) * 2 * seq_len * self.hidden_size
        return num_tokens * (2 * weights + attention)


def measure(skeleton: PreTrainedModel) -> ModelSize:
    """Sizes of a base model from its skeleton (`build_skeleton` with empty drop lists)."""
    layers = decoder_layers(skeleton)
    attention = tuple(_parameters_of(layer, sublayer_names(layer)["attention"]) for layer in layers)
    mlp = tuple(_parameters_of(layer, sublayer_names(layer)["mlp"]) for layer in layers)
    total = sum(parameter.numel() for parameter in skeleton.parameters())
    config = skeleton.config
    item_size = skeleton.dtype.itemsize
    return ModelSize(
        num_layers=len(layers),
        parameters=total,
        attention_parameters=attention,
        mlp_parameters=mlp,
        active_mlp_parameters=tuple(_active_parameters(layer, config) for layer in layers),
        outside_parameters=total - sum(attention) - sum(mlp),
        hidden_size=config.hidden_size,
        kv_bytes_per_layer=kv_values_per_token(config) * item_size,
        windows=_windows(config),
        bytes_per_parameter=item_size,
        max_positions=getattr(config, "max_position_embeddings", None),
    )


def kv_values_per_token(config: Any) -> int:
    """Numbers that one attention layer caches for a token: keys and values of every key-value head; of latent
    attention, as serving engines keep it, the compressed vector and the rotary key (DeepSeek-V2, arXiv 2405.04434)."""
    if getattr(config, "kv_lora_rank", None):
        return int(config.kv_lora_rank + config.qk_rope_head_dim)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_key_value_heads * head_dim)


def _active_parameters(layer: nn.Module, config: Any) -> int:
    """Of the experts, whose parameters are stacked in one tensor each, only the share that a token is routed to."""
    total = 0
    for name in sublayer_names(layer)["mlp"]:
        for parameter_name, parameter in getattr(layer, name).named_parameters():
            count = parameter.numel()
            is_stack = parameter_name.rpartition(".")[0].endswith("experts") and parameter.dim() == 3
            total += count * config.num_experts_per_tok // parameter.shape[0] if is_stack else count
    return total


def _windows(config: Any) -> tuple[int | None, ...]:
    """By the layer types that transformers makes its KV cache from."""
    widths = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    return tuple(widths.get(layer_type) for layer_type in layer_types(config))


def _parameters_of(layer: nn.Module, names: Sequence[str]) -> int:
    return sum(parameter.numel() for name in names for parameter in getattr(layer, name).parameters())
