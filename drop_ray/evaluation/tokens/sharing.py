"""Which models of transformers can compute requests that share their beginnings in one row, and the masks for it."""

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.models.transformers_private import attention_of, layer_types

# Arguments of a model's forward pass that a row with several ends needs.
NEEDED = ("attention_mask", "position_ids", "past_key_values", "logits_to_keep")
# Attentions of transformers that take a mask with an entry for every pair of tokens.
MASKED = ("sdpa", "eager")
# Kinds of rotary embedding whose angles depend on the length of a sequence beyond the model's original length.
BY_LENGTH = ("dynamic", "longrope")


def why_not_shared(model: PreTrainedModel, max_length: int) -> str | None:
    """Why the model cannot compute rows of several sequences of up to `max_length` tokens; None if it can.

    It depends on the configuration only, so that a base and its plans are alike.
    """
    config, name = model.config, type(model).__name__
    accepted = inspect.signature(type(model).forward).parameters
    missing = [argument for argument in NEEDED if argument not in accepted]
    if missing:
        return f"{name} takes no {missing[0]}"
    attention = attention_of(config)
    if attention not in MASKED:
        return f"{attention} takes no mask of pairs of tokens (model.attn_implementation: sdpa or eager does)"
    others = {*layer_types(config)} - {"full_attention", "sliding_attention"}
    if others:
        return f"{name} has layers of {min(others)}, whose state does not fork where sequences part"
    for rope in _ropes(config):
        original = rope.get("original_max_position_embeddings") or getattr(config, "max_position_embeddings", None) or 0
        if rope.get("rope_type") in BY_LENGTH and max_length > original:
            return (
                f"{name} turns positions by the length of a sequence beyond {original} tokens ({rope['rope_type']}; "
                f"evaluation.max_length: {original} would do)"
            )
    return None


class MaskMaker:
    """Makes the masks of one model: one for each kind of its layers."""

    def __init__(self, model: PreTrainedModel):
        kinds = {*layer_types(model.config)}
        window: int | None = getattr(model.config, "sliding_window", None)
        self._windows = {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}
        self._lowest = torch.finfo(model.dtype).min
        self._dtype = model.dtype
        self._adds = attention_of(model.config) == "eager"

    def make(self, positions: torch.Tensor, ends: torch.Tensor, prefix: int) -> Any:
        """The mask of a batch of rows, whose prefix of that many tokens is in the cache.

        `positions` and `ends` are int64 [rows, tokens], 0 in the padding: `Row` says what they mean. The mask is
        [rows, 1, tokens, prefix + tokens], for models with layers of several kinds one for each.
        """
        index = torch.arange(positions.shape[1], device=positions.device)
        reads, read = index[:, None], index[None, :]
        own = (read <= reads) & (reads < ends[:, None, :])
        # Padding reads itself: attention over nothing is not a number, which would spread.
        own |= reads == read
        seen = torch.cat([own.new_ones(*positions.shape, prefix), own], dim=-1)
        before = torch.arange(prefix, device=positions.device).expand(len(positions), -1)
        read_at = torch.cat([before, positions], dim=-1)
        masks = {kind: self._form(seen, positions, read_at, window) for kind, window in self._windows.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()), None)

    def _form(
        self, seen: torch.Tensor, positions: torch.Tensor, read_at: torch.Tensor, window: int | None
    ) -> torch.Tensor:
        allowed = seen if window is None else seen & (read_at[:, None, :] > positions[:, :, None] - window)
        allowed = allowed[:, None]
        if not self._adds:
            return allowed
        return torch.zeros(allowed.shape, dtype=self._dtype, device=allowed.device).masked_fill_(~allowed, self._lowest)


def _ropes(config: Any) -> list[dict[str, Any]]:
    """The settings of rotary embeddings: of all layers, or of each kind of them."""
    rope = getattr(config, "rope_parameters", None) or {}
    return [rope, *(part for part in rope.values() if isinstance(part, dict))]
