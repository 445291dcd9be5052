"""Sizes of a model without its weights: parameters of every sub-layer, KV-cache bytes, floating point operations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.candidates import layers_of
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.models.modeling_dropped import CONSTANT
from drop_ray.models.sublayers import sublayer_names
from drop_ray.models.transformers_private import all_layer_types, layer_types

# Types of rotary embeddings whose factor says how much longer a sequence may be than without it.
STRETCHED = ("linear", "dynamic", "yarn")


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a base model, counted once on its skeleton, so that the savings of a plan need no model at all."""

    layers: Layers
    """What the decoder layers have, and what of it must stay."""
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
    kv_parameters: tuple[int, ...]
    """Numbers that each layer caches of one token; 0 where it caches none, as linear attention."""
    windows: tuple[int | None, ...]
    """How many tokens the attention of each layer looks back at most; None if it looks at all of them."""
    bytes_per_parameter: int
    """Bytes of one parameter in the dtype of the skeleton."""
    max_positions: int | None
    """The longest sequence that the model has positions for, in tokens; None if config.json does not say."""
    input_states: tuple[int, ...] = ()
    """Numbers of a sequence that each layer's convolutions keep, whatever its length; empty where none do."""
    recurrent_states: tuple[int, ...] = ()
    """Numbers of a sequence that each layer's recurrence keeps, in float32 in any dtype; empty where none does."""
    kv_number_bytes: int | None = None
    """Bytes of a cached number of keys and values; None if they are of the parameters' dtype."""

    @property
    def num_layers(self) -> int:
        return self.layers.count

    @property
    def bytes_per_kv_number(self) -> int:
        return self.kv_number_bytes or self.bytes_per_parameter

    def kept_parameters(self, drops: DropLists) -> int:
        dropped = sum(self.attention_parameters[i] for i in drops.attn) + sum(self.mlp_parameters[i] for i in drops.mlp)
        return self.parameters - dropped

    def kv_bytes_per_token(self, drops: DropLists) -> int:
        """KV-cache bytes of one more token in every kept attention layer, as long as no window is full."""
        return self.bytes_per_kv_number * sum(self.kv_parameters[layer] for layer in self.kv_layers(drops))

    def kv_layers(self, drops: DropLists) -> tuple[int, ...]:
        """The layers that cache keys and values of each token."""
        return tuple(layer for layer, count in enumerate(self.kv_parameters) if count and layer not in drops.attn)

    def kv_bytes(self, drops: DropLists, num_tokens: int) -> int:
        """Cache bytes of one sequence: states, keys and values; a windowed layer holds its window of them at most."""
        numbers = sum(
            self.kv_parameters[layer] * min(num_tokens, self.windows[layer] or num_tokens)
            for layer in self.kv_layers(drops)
        )
        return self.bytes_per_kv_number * numbers + self.state_bytes(drops)

    def state_bytes(self, drops: DropLists) -> int:
        """Bytes of one sequence that do not grow with it: states of linear attention, state spaces, convolutions."""
        inputs, recurrent = (
            sum(count for layer, count in enumerate(states) if layer not in drops.attn)
            for states in (self.input_states, self.recurrent_states)
        )
        return inputs * self.bytes_per_parameter + recurrent * torch.float32.itemsize

    def is_uniform(self, drops: DropLists) -> bool:
        """Whether all mixers cache alike: keys and values of one size in windows of one width, and nothing else."""
        layers = self.kv_layers(drops)
        forms = {(self.kv_parameters[layer], self.windows[layer]) for layer in layers}
        return len(forms) == 1 and not self.state_bytes(drops)

    def forward_flops(self, drops: DropLists, num_tokens: int, seq_len: int) -> int:
        """Floating point operations of a forward pass of `num_tokens` tokens in sequences of `seq_len`.

        Each weight that a token meets counts 2. For each kept attention, a token attends to seq_len / 2 others on
        average, and to those in its window at most, at 2 x 2 x hidden each.
        """
        weights = sum(count for layer, count in enumerate(self.attention_parameters) if layer not in drops.attn)
        weights += sum(count for layer, count in enumerate(self.active_mlp_parameters) if layer not in drops.mlp)
        attended = sum(
            min(seq_len, 2 * (window or seq_len))
            for layer, window in enumerate(self.windows)
            if layer not in drops.attn and layer in self.layers.attending
        )
        return num_tokens * (2 * weights + attended * 2 * self.hidden_size)


def measure(skeleton: PreTrainedModel) -> ModelSize:
    """Sizes of a base model from its skeleton (`build_skeleton` with empty drop lists)."""
    layers, known = decoder_layers(skeleton), layers_of(skeleton)
    attention = tuple(_parameters_of(layer, sublayer_names(layer)["attention"]) for layer in layers)
    mlp = tuple(_parameters_of(layer, sublayer_names(layer)["mlp"]) for layer in layers)
    total = sum(parameter.numel() for parameter in skeleton.parameters())
    config = skeleton.config
    item_size = skeleton.dtype.itemsize
    return ModelSize(
        layers=known,
        parameters=total,
        attention_parameters=attention,
        mlp_parameters=mlp,
        active_mlp_parameters=tuple(_active_parameters(layer, config) for layer in layers),
        outside_parameters=total - sum(attention) - sum(mlp),
        hidden_size=config.hidden_size,
        kv_parameters=_kv_parameters(config, layers),
        windows=_windows(config),
        bytes_per_parameter=item_size,
        max_positions=max_positions(config),
        input_states=tuple(_input_state(layer) for layer in layers),
        recurrent_states=tuple(_recurrent_state(layer) for layer in layers),
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


def _kv_parameters(config: Any, layers: nn.ModuleList) -> tuple[int, ...]:
    """Numbers that each layer caches of a token; none where it reads another layer's keys and values."""
    types = layer_types(config)
    counts = [
        0 if kind in CONSTANT else _kv_projected(layer, own) or _kv_values(own)
        for kind, own, layer in zip(types, config.per_layer_config, layers, strict=False)
    ]
    return (*counts, *[0] * (len(layers) - len(counts)))


def _kv_projected(layer: nn.Module, config: Any) -> int:
    """Numbers that an attention caches of a token, where it has a projection to keys of its own; 0 otherwise.

    Some families give layers with windows more heads than config.json says (MiMo-V2-Flash), or values that are the keys
    (Gemma 4).
    """
    if getattr(config, "kv_lora_rank", None):
        return 0
    for part in _mixer_parts(layer):
        keys, values = getattr(part, "k_proj", None), getattr(part, "v_proj", None)
        if isinstance(keys, nn.Linear):
            return keys.out_features + (values.out_features if isinstance(values, nn.Linear) else keys.out_features)
    return 0


def _kv_values(config: Any) -> int:
    """Numbers that an attention caches of a token, by its layer's own configuration: keys and values of every head.

    Latent attention has the compressed vector and the rotary key in their place, as serving engines keep them
    (DeepSeek-V2, arXiv 2405.04434).
    """
    if getattr(config, "kv_lora_rank", None):
        return int(config.kv_lora_rank + config.qk_rope_head_dim)
    heads = getattr(config, "num_attention_heads", None)
    if not heads:  # a model of state spaces alone
        return 0
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    width = head_dim + (getattr(config, "v_head_dim", None) or head_dim)
    return int((getattr(config, "num_key_value_heads", None) or heads) * width)


def _active_parameters(layer: nn.Module, config: Any) -> int:
    """Parameters that one token meets: of experts, which are stacked in one tensor, only its routed share."""
    total = 0
    for name in sublayer_names(layer)["mlp"]:
        for parameter_name, parameter in getattr(layer, name).named_parameters():
            count = parameter.numel()
            is_stack = parameter_name.rpartition(".")[0].endswith("experts") and parameter.dim() == 3
            total += count * _experts_a_token(config) // max(1, parameter.shape[0]) if is_stack else count
    return total


def _experts_a_token(config: Any) -> int:
    """How many experts a token is routed to; families name the field differently."""
    names = ("num_experts_per_tok", "moe_k", "top_k_experts", "moe_topk", "experts_per_token")
    return next(int(count) for name in names if (count := getattr(config, name, None)))


def _input_state(layer: nn.Module) -> int:
    """Numbers that the convolutions of a layer's mixer keep of a sequence: their last inputs."""
    convolutions = (part for part in _mixer_parts(layer) if isinstance(part, nn.Conv1d))
    return sum(part.out_channels * part.kernel_size[0] for part in convolutions)


def _recurrent_state(layer: nn.Module) -> int:
    """Numbers that the recurrence of a layer's mixer keeps of a sequence."""
    total = 0
    part: Any
    for part in _mixer_parts(layer):
        if hasattr(part, "ssm_state_size"):  # Mamba and Mamba 2
            total += part.intermediate_size * part.ssm_state_size
        elif hasattr(part, "head_v_dim") and hasattr(part, "num_v_heads"):  # gated delta networks
            total += part.num_v_heads * part.head_k_dim * part.head_v_dim
        elif hasattr(part, "qkv_dim") and hasattr(part, "conv1d"):  # Kimi Delta Attention
            total += part.qkv_dim * part.head_dim
    return total


def _mixer_parts(layer: nn.Module) -> Iterator[nn.Module]:
    for name in sublayer_names(layer)["attention"]:
        yield from getattr(layer, name).modules()


def _windows(config: Any) -> tuple[int | None, ...]:
    """The attention window of each layer, by the layer types that transformers makes its KV cache from."""
    widths = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "hybrid_sliding": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    return tuple(widths.get(kind) for kind in all_layer_types(config))


def _parameters_of(layer: nn.Module, names: Sequence[str]) -> int:
    return sum(parameter.numel() for name in names for parameter in getattr(layer, name).parameters())
