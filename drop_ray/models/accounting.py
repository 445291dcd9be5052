"""Sizes of a model without its weights: parameters of every sub-layer, KV-cache bytes, floating point operations."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.families import DropLists
from drop_ray.models.modeling_dropped import sublayer_names


@dataclass(frozen=True)
class ModelSize:
    """Counted once on the skeleton of the base model, so that a plan's savings need no model at all."""

    num_layers: int
    parameters: int
    attention_parameters: tuple[int, ...]
    mlp_parameters: tuple[int, ...]
    outside_parameters: int
    hidden_size: int
    kv_bytes_per_layer: int
    bytes_per_parameter: int
    max_positions: int | None

    def kept_parameters(self, drops: DropLists) -> int:
        dropped = sum(self.attention_parameters[i] for i in drops.attn) + sum(self.mlp_parameters[i] for i in drops.mlp)
        return self.parameters - dropped

    def kv_bytes_per_token(self, drops: DropLists) -> int:
        """2 (keys, values) x kept attention layers x key-value heads x head size x bytes of the dtype."""
        return self.kv_bytes_per_layer * (self.num_layers - len(drops.attn))

    def forward_flops(self, drops: DropLists, num_tokens: int, seq_len: int) -> int:
        """2 per weight and token, plus 2 x 2 x seq_len / 2 x hidden for each kept (causal) attention."""
        weights = self.kept_parameters(drops) - self.outside_parameters
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
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelSize(
        num_layers=len(layers),
        parameters=total,
        attention_parameters=attention,
        mlp_parameters=mlp,
        outside_parameters=total - sum(attention) - sum(mlp),
        hidden_size=config.hidden_size,
        kv_bytes_per_layer=2 * config.num_key_value_heads * head_dim * item_size,
        bytes_per_parameter=item_size,
        max_positions=getattr(config, "max_position_embeddings", None),
    )


def _parameters_of(layer: nn.Module, names: Sequence[str]) -> int:
    return sum(parameter.numel() for name in names for parameter in getattr(layer, name).parameters())
