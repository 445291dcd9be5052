"""Reading a remote file by ranges, several at a time: one connection to S3 gives a part of what a machine can take."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

RANGE_BYTES = 8 << 20
# Below, the latency of a request is longer than its transfer.
SMALLEST_RANGE_BYTES = 1 << 20
# Requests under way at a time; with the size of a range it bounds what reading takes beside the buffers themselves.
RANGES_AT_ONCE = 16


def fill_ranges(filesystem: Any, path: str, pieces: Sequence[tuple[int, memoryview]]) -> int:
    """Read into each buffer the bytes of a file that begin at its offset; returns how many bytes the file lacks.

    filesystem: of fsspec. A range that ends takes the next one's place at once, so that a slow one holds up no others.
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
