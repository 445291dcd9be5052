"""Experts as linears of their own, where a family has those of a layer in stacked tensors: linears alone are packed.

It lies beside exported checkpoints, and needs nothing but torch and transformers.
"""

from typing import Any

import torch
from torch import nn


def has_packed_linears(config):
    """Whether a checkpoint's configuration says that its linears are packed: so many bits, in groups of such a size."""
    stored = getattr(config, "quantization_config", None) or {}
    stored = stored if isinstance(stored, dict) else vars(stored)
    return {"bits", "group_size"} <= stored.keys()


def split_experts(model: Any) -> None:
    """Give each expert linears of its own in place of its part of stacked tensors, under their names in files.

    transformers packs linears only. The new ones have no values yet.
    """
    names = _expert_linears(model.config.model_type.removeprefix("dropped_"))
    for experts in [part for part in model.modules() if _is_stacked(part)]:
        count, width, hidden_size = experts.gate_up_proj.shape
        made = {"device": experts.gate_up_proj.device, "dtype": experts.gate_up_proj.dtype, "bias": False}
        del experts.gate_up_proj, experts.down_proj
        for number in range(count):
            expert = nn.Module()
            for name in names[:2]:
                setattr(expert, name, nn.Linear(hidden_size, width // 2, **made))
            setattr(expert, names[2], nn.Linear(width // 2, hidden_size, **made))
            experts.add_module(str(number), expert)
        experts.linears = names
        experts._is_hf_initialized = True  # or the family's own code would give values to the stacked tensors
        experts.__class__ = type(f"Split{type(experts).__name__}", (SplitExperts, type(experts)), {})


def _is_stacked(module):
    stacked = vars(module).get("_parameters", {}).get("gate_up_proj")
    if stacked is None or stacked.dim() != 3:
        return False
    if module.is_transposed or module.has_bias or not module.is_concatenated:
        raise ValueError(f"{type(module).__name__} cannot be split into linears")
    return True


def _expert_linears(model_type):
    """Names of an expert's gate, up and down projection in the files of a family."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    names = {"gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"]}
    for entry in get_checkpoint_conversion_mapping(model_type) or ():
        target = entry.target_patterns[0].rpartition(".")[2]
        if target in names and all(".experts.*." in f".{pattern}" for pattern in entry.source_patterns):
            names[target] = [pattern.removesuffix(".weight").rpartition(".")[2] for pattern in entry.source_patterns]
    return names["gate_up_proj"] + names["down_proj"]


class SplitExperts:
    """Mixed into a class of experts whose stacked tensors have become linears."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        """hidden_states: [tokens, hidden_size]; top_k_index, top_k_weights: [tokens, experts of a token]."""
        added = torch.zeros_like(hidden_states)
        for number in top_k_index.unique().tolist():
            if number >= self.num_experts:  # stands for none
                continue
            gate, up, down = (getattr(getattr(self, str(number)), name) for name in self.linears)
            tokens, places = torch.where(top_k_index == number)
            state = hidden_states[tokens]
            state = down(self._apply_gate(torch.cat((gate(state), up(state)), dim=-1)))
            added.index_add_(0, tokens, (state * top_k_weights[tokens, places, None]).to(added.dtype))
        return added
