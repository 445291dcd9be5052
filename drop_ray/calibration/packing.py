"""From text to packed token samples: documents are tokenized, each followed by EOS, joined and cut into samples.

There is no BOS and no padding, as in He et al., arXiv 2406.15786: every token of every sample counts in the scores.
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drop_ray.errors import UserError
from drop_ray.store.identity import canonical_json

SCHEMA = pa.schema([("sample", pa.int32()), ("token_ids", pa.list_(pa.int32()))])
DOCUMENTS_AT_ONCE = 256

Samples = NDArray[np.int32]
"""Token ids of samples, int32 [num_samples, seq_len]."""

# Texts -> one list of token ids each, without special tokens.
Tokenize = Callable[[list[str]], list[list[int]]]


def shuffled(documents: list[str], seed: int | None) -> list[str]:
    """The documents in a seeded order, or in their own order if the seed is None."""
    if seed is None:
        return documents
    order = documents.copy()
    random.Random(seed).shuffle(order)
    return order


def pack(
    documents: Iterable[str],
    tokenize: Tokenize,
    eos_token_id: int,
    num_samples: int,
    seq_len: int,
    *,
    field: str,
) -> NDArray[np.int32]:
    """The first `num_samples` blocks of the joined documents: int32 [num_samples, seq_len].

    No more documents are taken than needed, a few hundred at a time. If they are too few, UserError says how many
    samples the text gives.
    """
    samples = packed_behind(documents, tokenize, eos_token_id, 0, num_samples, seq_len)
    if len(samples) < num_samples:
        raise UserError(
            f"{field}: the text gives {len(samples)} samples of {seq_len} tokens, {num_samples} are asked "
            "for; give more text, or lower num_samples or seq_len"
        )
    return samples


def packed_behind(
    documents: Iterable[str], tokenize: Tokenize, eos_token_id: int, skipped: int, num_samples: int, seq_len: int
) -> NDArray[np.int32]:
    """The blocks that follow the first `skipped` tokens of the joined documents, at most `num_samples` of them.

    int32 [whole samples that there are, seq_len].
    """
    wanted = num_samples * seq_len
    token_ids: list[int] = []
    remaining = iter(documents)
    while len(token_ids) < wanted and (batch := list(islice(remaining, DOCUMENTS_AT_ONCE))):
        for ids in tokenize(batch):
            token_ids += [*ids, eos_token_id]
        passed = min(skipped, len(token_ids))
        del token_ids[:passed]
        skipped -= passed
    count = min(num_samples, len(token_ids) // seq_len)
    return np.array(token_ids[: count * seq_len], dtype=np.int32).reshape(count, seq_len)


def check_vocabulary(token_ids: NDArray[np.int32], vocab_size: int, field: str) -> None:
    if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= vocab_size):
        bad = int(token_ids.max() if token_ids.max() >= vocab_size else token_ids.min())
        raise UserError(f"{field}: token id {bad} is outside the model's vocabulary of {vocab_size}")


def token_identity(token_ids: NDArray[np.int32]) -> str:
    """sha256 of the token ids and their shape, which identifies calibration samples however they were made."""
    digest = hashlib.sha256(canonical_json(list(token_ids.shape)).encode())
    digest.update(np.ascontiguousarray(token_ids, dtype="<i4").tobytes())
    return digest.hexdigest()


def to_table(token_ids: NDArray[np.int32]) -> pa.Table:
    samples = pa.array(range(len(token_ids)), pa.int32())
    return pa.table([samples, pa.array(token_ids.tolist(), pa.list_(pa.int32()))], schema=SCHEMA)


def from_table(table: pa.Table) -> NDArray[np.int32]:
    """The samples of a table, int32 [num_samples, seq_len]."""
    return np.array(table.column("token_ids").to_pylist(), dtype=np.int32)
