"""Greedy generation from a loaded model, one batch in step."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel


@torch.inference_mode()
def greedy_tokens(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[int]
) -> list[tuple[int, ...]]:
    """The most probable tokens after each prompt, at most `max_tokens`, up to one of `stop`, which is included.

    Unlike `model.generate`, no setting of the checkpoint's generation_config.json takes part.
    """
    longest, device = max(map(len, prompts)), model.device
    ids, mask = (torch.zeros(len(prompts), longest, dtype=torch.long) for _ in range(2))
    for number, prompt in enumerate(prompts):
        ids[number, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask[number, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    rows: list[list[int]] = [[] for _ in prompts]
    cache = None
    for _ in range(max_tokens):
        output = model(
            ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        chosen = output.logits[:, -1].argmax(-1)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if not row or row[-1] not in stop:
                row.append(token)
        if all(row[-1] in stop for row in rows):
            break
        cache, ids, positions = output.past_key_values, chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return [tuple(row) for row in rows]
