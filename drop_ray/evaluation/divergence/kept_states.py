"""States of a model that are asked for again: the rounds of a search compare with the same base on the same samples."""

import hashlib

import torch

from drop_ray.models.families import DropLists


class KeptStates:
    """The states after the last layer, of one drop state, on the host: as many micro-batches as fit the memory."""

    def __init__(self, drops: DropLists, num_bytes: int):
        """num_bytes: of host memory at most."""
        self.drops, self._left = drops, num_bytes
        self._states: dict[bytes, torch.Tensor] = {}

    def find(self, token_ids: torch.Tensor) -> torch.Tensor | None:
        """The state of a micro-batch, [batch, seq_len, hidden_size]; None if it is not kept.

        token_ids: [batch, seq_len].
        """
        return self._states.get(_key(token_ids))

    def keep(self, token_ids: torch.Tensor, state: torch.Tensor) -> None:
        """Keep the state of a micro-batch, if there is room for it."""
        key = _key(token_ids)
        if key not in self._states and state.nbytes <= self._left:
            self._states[key] = state.cpu()
            self._left -= state.nbytes


def _key(token_ids: torch.Tensor) -> bytes:
    shape = repr(tuple(token_ids.shape)).encode()
    return hashlib.sha256(shape + token_ids.cpu().numpy().tobytes()).digest()
