"""The decoder layers of a model of transformers, or of vLLM, and the modules that make their sub-layers, by name.

It lies beside exported checkpoints, and needs nothing but torch.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

# The names under which decoders of transformers and vLLM keep the parts of a layer. Mixers relate tokens to each other.
MIXERS = (
    "self_attn",
    "attention",
    "self_attention",
    "attn",
    "linear_attn",
    "mamba",
    "conv",
    "short_conv",
    "temporal_block",
    "multi_head_attention",
    "mlstm_layer",
    "mixer",
)
MLPS = ("mlp", "block_sparse_moe", "moe", "shared_mlp", "feed_forward", "mlp_block", "ffn", "fc2")
BEFORE_MIXER = (
    "input_layernorm",
    "attention_layernorm",
    "self_attn_layer_norm",
    "operator_norm",
    "temporal_pre_norm",
    "attn_norm",
    "norm_mlstm",
    "layernorm1",
    "norm_1",
    "ln_1",
    "ln_attn",
)
AFTER_MIXER = ("post_self_attn_layernorm", "post_norm1")
BEFORE_MLP = (
    "pre_feedforward_layernorm",
    "pre_mlp_layernorm",
    "pre_ff_layernorm",
    "pre_moe_layernorm",
    "feedforward_layernorm",
    "channel_pre_norm",
    "final_layer_norm",
    "mlp_norm",
    "ffn_norm",
    "norm_ffn",
    "layernorm2",
    "norm_2",
    "ln_2",
    "ln_mlp",
    "fc1",
)
AFTER_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_norm2")
# Before the MLP, unless a norm of a more telling name is there: then it lies after the mixer.
BETWEEN = "post_attention_layernorm"


def drop_indices(drop_list: Iterable[int] | None) -> frozenset[int]:
    """Layer indices of a drop list: `[3, 1]`, or the paper's other spelling, one bool a layer. None is empty."""
    drop_list = list(drop_list or ())
    if any(isinstance(entry, bool) for entry in drop_list):
        return frozenset(index for index, is_dropped in enumerate(drop_list) if is_dropped)
    return frozenset(drop_list)


def find_layers(model: Any) -> nn.ModuleList:
    """The decoder layers: the list of as many modules as the configuration counts that is nearest to the model."""
    return layers_and_path(model)[1]


def layers_and_path(model: Any) -> tuple[str, nn.ModuleList]:
    """The decoder layers, after the name that the model has for their list, such as `model.layers`."""
    text = model.config.get_text_config()
    decoder = model if text is model.config else model.get_decoder()  # a tower may have as many layers
    start = next(name for name, part in model.named_modules() if part is decoder)
    lists = [(name, part) for name, part in decoder.named_modules(prefix=start) if isinstance(part, nn.ModuleList)]
    found = [(name, part) for name, part in lists if len(part) == getattr(text, "num_hidden_layers", None)]
    if not found:
        raise AttributeError("no list of modules has as many as `num_hidden_layers` says")
    return min(found, key=lambda entry: entry[0].count("."))


def is_norm(name: str) -> bool:
    """Whether a module of a sub-layer only prepares the state for the one that gives what is added to it."""
    return name not in (*MIXERS, *MLPS)


def sublayer_names(layer: nn.Module) -> dict[str, list[str]]:
    """Names of the modules of a decoder layer that make its token mixer ("attention") and its MLP, each with its norms.

    They are in the order of their calls. The list of a sub-layer that the layer lacks is empty. A norm that mixer and
    MLP both read is in neither, and stays: such layers add the two side by side.
    """
    names = [name for name, _ in layer.named_children()]

    def those(*wanted: str) -> list[str]:
        return [name for name in wanted if name in names]

    if "mixer" in names:  # one sub-layer of any kind; its norm stays, as the layer reads its dtype
        is_mlp = getattr(layer, "block_type", None) in ("mlp", "moe")
        return {"attention": [] if is_mlp else ["mixer"], "mlp": ["mixer"] if is_mlp else []}
    mixers, mlps = those(*MIXERS), those(*MLPS)
    before, after = those(*BEFORE_MIXER), those(*AFTER_MIXER)
    before_mlp, after_mlp = those(*BEFORE_MLP), those(*AFTER_MLP)
    if BETWEEN in names:
        if before_mlp or (after_mlp and not after):
            after.append(BETWEEN)
        else:
            before_mlp.append(BETWEEN)
    if mlps and not before_mlp + after_mlp:
        before = []
    return {"attention": [*before, *mixers, *after], "mlp": [*before_mlp, *mlps, *after_mlp]}
