"""Reading by ranges: the right bytes in the right places, several requests at once, never more than allowed."""

from threading import Barrier, BrokenBarrierError, Lock
from typing import Any

import fsspec
import pytest

from drop_ray.store import ranges

DATA = bytes(range(251)) * 40


@pytest.fixture
def memory() -> Any:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/ranges/file", DATA)
    return filesystem


@pytest.mark.parametrize("range_bytes", [1, 7, 1000, 10**6])
def test_pieces_get_the_bytes_at_their_offsets(memory: Any, monkeypatch: pytest.MonkeyPatch, range_bytes: int) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", range_bytes)
    buffers = [bytearray(300), bytearray(0), bytearray(1), bytearray(40)]
    offsets = [5000, 17, 0, 5]
    assert ranges.fill_ranges(memory, "/ranges/file", [*zip(offsets, map(memoryview, buffers), strict=True)]) == 0
    assert all(buffer == DATA[at : at + len(buffer)] for at, buffer in zip(offsets, buffers, strict=True))


def test_the_bytes_that_a_file_lacks_are_counted(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 100)
    buffer = bytearray(350)
    assert ranges.fill_ranges(memory, "/ranges/file", [(len(DATA) - 120, memoryview(buffer))]) == 230
    assert buffer[:120] == DATA[-120:]


def test_as_many_requests_as_allowed_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The barrier opens only for that many together; it would break if there were fewer."""
    monkeypatch.setattr(ranges, "RANGE_BYTES", 10)
    barrier, lock = Barrier(ranges.RANGES_AT_ONCE), Lock()
    counts = {"now": 0, "most": 0}

    class Filesystem:
        def cat_file(self, _: str, start: int, end: int) -> bytes:
            with lock:
                counts["now"] += 1
                counts["most"] = max(counts.values())
            barrier.wait(30)
            with lock:
                counts["now"] -= 1
            return DATA[start:end]

    buffer = bytearray(10 * ranges.RANGES_AT_ONCE * 3)
    try:
        ranges.fill_ranges(Filesystem(), "file", [(0, memoryview(buffer))])
    except BrokenBarrierError:
        pytest.fail("requests follow each other")
    assert counts["most"] == ranges.RANGES_AT_ONCE
    assert buffer == DATA[: len(buffer)]


def test_an_error_of_one_request_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 10)

    class Filesystem:
        def cat_file(self, _: str, start: int, end: int) -> bytes:
            if start == 30:
                raise PermissionError
            return DATA[start:end]

    with pytest.raises(PermissionError):
        ranges.fill_ranges(Filesystem(), "file", [(0, memoryview(bytearray(100)))])
