"""Reads a remote file by ranges, several at a time: one connection to S3 uses only a part of a machine's bandwidth."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

RANGE_BYTES = 8 << 20
# In smaller ranges, the latency of a request is longer than its transfer.
SMALLEST_RANGE_BYTES = 1 << 20
# Requests at a time. Times the size of a range, this bounds the memory of reading beside the buffers themselves.
RANGES_AT_ONCE = 16


def fill_ranges(filesystem: Any, path: str, pieces: Sequence[tuple[int, memoryview]]) -> int:
    """Fill each buffer with the bytes of a file that begin at its offset. Returns how many bytes the file lacks.

    `filesystem` is one of fsspec. A range that ends makes room for the next one at once, so that a slow one delays no
    others.
    """
    share = sum(len(view) for _, view in pieces) // RANGES_AT_ONCE
    size = min(RANGE_BYTES, max(SMALLEST_RANGE_BYTES, share))
    ranges = [
        (offset + start, view[start : start + size]) for offset, view in pieces for start in range(0, len(view), size)
    ]

    def fill(part: tuple[int, memoryview]) -> int:
        offset, view = part
        # Named: s3fs takes a version as its second argument.
        data = filesystem.cat_file(path, start=offset, end=offset + len(view))
        view[: len(data)] = data
        return len(view) - len(data)

    if len(ranges) <= 1:
        return sum(map(fill, ranges))
    with ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="ranges") as readers:
        return sum(readers.map(fill, ranges))
