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

# Types of rotary embeddings whose factor says how much longer a sequence may be than without it.
STRETCHED = ("linear", "dynamic", "yarn")


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a base model, counted once on its skeleton, so that the savings of a plan need no model at all."""

    num_layers: int
    """Decoder layers."""
    parameters: int
    """Parameters of the whole model."""
    attention_parameters: tuple[int, ...]
    """Parameters of the attention of each layer, with its norms."""
    mlp_parameters: tuple[int, ...]
    """Parameters of the MLP of each layer, with its norms."""
    active_mlp_parameters: tuple[int, ...]
    """`mlp_parameters` that one token meets: in a mixture, only the experts that it is routed to."""
    outside_parameters: int
    """Parameters of no decoder layer: embeddings, the last norm and the output layer."""
    hidden_size: int
    """Width of the residual stream."""
    kv_bytes_per_layer: int
    """KV-cache bytes of one token in one attention layer."""
    windows: tuple[int | None, ...]
    """How many tokens the attention of each layer looks back at most; None if it looks at all of them."""
    bytes_per_parameter: int
    """Bytes of one parameter in the dtype of the skeleton."""
    max_positions: int | None
    """The longest sequence that the model has positions for, in tokens; None if config.json does not say."""

    def kept_parameters(self, drops: DropLists) -> int:
        dropped = sum(self.attention_parameters[i] for i in drops.attn) + sum(self.mlp_parameters[i] for i in drops.mlp)
        return self.parameters - dropped

    def kv_bytes_per_token(self, drops: DropLists) -> int:
        """KV-cache bytes of one more token in every kept attention layer, as long as no window is full."""
        return self.kv_bytes_per_layer * (self.num_layers - len(drops.attn))

    def kv_bytes(self, drops: DropLists, num_tokens: int) -> int:
        """KV-cache bytes of one sequence. A windowed layer holds no more tokens than its window."""
        kept = [window for layer, window in enumerate(self.windows) if layer not in drops.attn]
        return self.kv_bytes_per_layer * sum(min(num_tokens, window or num_tokens) for window in kept)

    def forward_flops(self, drops: DropLists, num_tokens: int, seq_len: int) -> int:
        """Floating point operations of a forward pass of `num_tokens` tokens in sequences of `seq_len`.

        Each weight that a token meets counts 2. For each kept attention, a token attends to seq_len / 2 others on
        average, at 2 x 2 x hidden each.
        """
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
        max_positions=max_positions(config),
    )


def max_positions(config: Any) -> int | None:
    """Tokens that the model has positions for, with its scaling of rotary embeddings.

    Types whose factor stretches an unscaled length are reckoned as vLLM does (`_get_and_verify_max_len`). Those of
    Llama 3 and Phi-3 (longrope) state the stretched length, and so does a config that scales each kind of layer on its
    own (Gemma 3).
    """
    stated: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if stated is None or rope.get("rope_type") not in STRETCHED or not rope.get("factor"):
        return stated
    unscaled = rope.get("original_max_position_embeddings") or stated
    return max(stated, int(unscaled * rope["factor"]))


def kv_values_per_token(config: Any) -> int:
    """Numbers that one attention layer caches for a token: keys and values of every key-value head.

    Latent attention has the compressed vector and the rotary key in their place, as serving engines keep them
    (DeepSeek-V2, arXiv 2405.04434).
    """
    if getattr(config, "kv_lora_rank", None):
        return int(config.kv_lora_rank + config.qk_rope_head_dim)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_key_value_heads * head_dim)


def _active_parameters(layer: nn.Module, config: Any) -> int:
    """Parameters that one token meets: of experts, which are stacked in one tensor, only its routed share."""
    total = 0
    for name in sublayer_names(layer)["mlp"]:
        for parameter_name, parameter in getattr(layer, name).named_parameters():
            count = parameter.numel()
            is_stack = parameter_name.rpartition(".")[0].endswith("experts") and parameter.dim() == 3
            total += count * config.num_experts_per_tok // parameter.shape[0] if is_stack else count
    return total


def _windows(config: Any) -> tuple[int | None, ...]:
    """The attention window of each layer, by the layer types that transformers makes its KV cache from."""
    widths = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    return tuple(widths.get(layer_type) for layer_type in layer_types(config))


def _parameters_of(layer: nn.Module, names: Sequence[str]) -> int:
    return sum(parameter.numel() for name in names for parameter in getattr(layer, name).parameters())
