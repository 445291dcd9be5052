"""A GGUF file is the `nemotron-nas` checkpoint that it was made of: every tensor and every setting is read back.

llama.cpp turns pairs of neighbours in a head where transformers turns its halves, so that its converter reorders the
rows of queries and keys.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from drop_ray.errors import ExportRefusedError, UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.nemotron_nas import read_nemotron_nas

ARCHITECTURE = "deci"
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
FREQUENCIES = "rope_freqs.weight"
# Settings are kept in float32.
ROUNDING = 1e-6


def check_reader() -> None:
    """UserError if there is no package to read GGUF files with."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--format gguf: gguf, by which the file is compared, is not installed; pip install 'drop-ray[gguf]'"
        ) from error


def compare_gguf(folder: Path, file: Path) -> None:
    """ExportRefusedError, with what differs, unless `file` has the tensors and the settings of the checkpoint."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(file)
    config, drops = read_nemotron_nas(folder)
    _compare_settings({name: field.contents() for name, field in reader.fields.items()}, _settings(config, drops))
    checkpoint = open_checkpoint(folder)
    expected = {_name(name): name for name in checkpoint.tensors}
    found = {tensor.name: tensor for tensor in reader.tensors}
    factors = _frequency_factors(config)
    lacking = [
        *(expected.keys() - found.keys()),
        *([FREQUENCIES] if factors is not None and FREQUENCIES not in found else ()),
    ]
    further = found.keys() - expected.keys() - ({FREQUENCIES} if factors is not None else set())
    for names, what in ((lacking, "lacks"), (further, "has, besides its own,")):
        if names:
            raise _refusal(f"{what} {len(names)} tensors, the first is {min(names)}")
    if factors is not None:
        _compare_tensor(FREQUENCIES, found[FREQUENCIES].data, factors, ROUNDING)
    for name, own in expected.items():
        tensor = found[name]
        values = _as_stored(own, checkpoint.read([own])[own].float(), config)
        _compare_tensor(name, dequantize(tensor.data, tensor.tensor_type), values.numpy())


def _name(name: str) -> str:
    """A tensor's name in the file."""
    module, _, kind = name.rpartition(".")
    match = LAYER.fullmatch(module)
    if match and match[2] in INSIDE:
        return f"blk.{match[1]}.{INSIDE[match[2]]}.{kind}"
    return f"{OUTSIDE.get(module, module)}.{kind}"


def _as_stored(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """With the rows of queries and keys in llama.cpp's order."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _settings(config: Any, drops: DropLists) -> dict[str, Any]:
    layers = range(config.num_hidden_layers)

    def each(value: int, absent: tuple[int, ...]) -> list[int]:
        return [0 if layer in absent else value for layer in layers]

    own = {
        "block_count": len(layers),
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "attention.head_count": each(config.num_attention_heads, drops.attn),
        "attention.head_count_kv": each(config.num_key_value_heads, drops.attn),
        "feed_forward_length": each(config.intermediate_size, drops.mlp),
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.hidden_size // config.num_attention_heads,
        "attention.value_length": config.hidden_size // config.num_attention_heads,
        "rope.dimension_count": config.hidden_size // config.num_attention_heads,
        "rope.freq_base": config.rope_parameters["rope_theta"],
    }
    return {"general.architecture": ARCHITECTURE, **{f"{ARCHITECTURE}.{name}": value for name, value in own.items()}}


def _compare_settings(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        own = found.get(name)
        same = bool(np.isclose(own, value, rtol=ROUNDING, atol=0)) if isinstance(own, float) else own == value
        if not same:
            raise _refusal(f"has {own} for {name}, not {value}")


def _frequency_factors(config: Any) -> NDArray[np.float32] | None:
    """What llama.cpp divides each frequency by, where they are not those of the base alone (Llama 3)."""
    kind = config.rope_parameters.get("rope_type", "default")
    if kind == "default":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    steps = torch.arange(0, 2 * len(scaled), 2, dtype=torch.float32) / (2 * len(scaled))
    factors: NDArray[np.float32] = (1 / config.rope_parameters["rope_theta"] ** steps / scaled).numpy()
    return factors


def _compare_tensor(name: str, found: NDArray[Any], expected: NDArray[Any], rounding: float = 0) -> None:
    if found.shape != expected.shape:
        raise _refusal(f"has {name} of shape {[*found.shape]}, not {[*expected.shape]}")
    difference = np.abs(found - expected).max()
    if not difference <= rounding * np.abs(expected).max():
        raise _refusal(f"has other values in {name}: they differ by up to {difference:.3g}")


def _refusal(reason: str) -> ExportRefusedError:
    return ExportRefusedError(f"the GGUF file {reason}; it was not kept")
