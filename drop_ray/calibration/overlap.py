"""Whether two texts have a stretch of tokens in common, wherever it stands in their samples."""

import numpy as np
from numpy.typing import NDArray

from drop_ray.calibration.packing import Samples

STRETCH = 64
"""So many tokens in a row are taken for the same text. A phrase that many texts have is shorter."""
BASE = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with about as many ones as zeros, for a polynomial hash modulo 2^64."""


def overlaps(one: Samples, other: Samples) -> int:
    """How many samples of the other text have a stretch of `STRETCH` tokens of the first; all of a shorter sample.

    one, other: token ids, integers [num_samples, seq_len], which may differ in both. Hashes of 64 bits are
    compared: of a million stretches against a million, chance finds an equal pair once in ten million times.
    """
    if not one.size or not other.size:
        return 0
    length = min(STRETCH, one.shape[1], other.shape[1])
    return int(np.isin(_hashes(other, length), _hashes(one, length)).any(axis=1).sum())


def _hashes(samples: Samples, length: int) -> NDArray[np.uint64]:
    """A hash of every stretch of that length: uint64 [num_samples, seq_len - length + 1]."""
    tokens = samples.astype(np.uint64) + np.uint64(1)
    count = tokens.shape[1] - length + 1
    found = np.zeros((len(tokens), count), np.uint64)
    for offset in range(length):
        found = found * BASE + tokens[:, offset : offset + count]
    return found
