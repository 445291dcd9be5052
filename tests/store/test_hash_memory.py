"""Hashes that a node remembers: by many processes, in a file that may be damaged, and in one that grows no further."""

import multiprocessing
from pathlib import Path

import pytest

from drop_ray.store import hash_memory
from drop_ray.store.hash_memory import HashMemory


def sha(number: int) -> str:
    return f"{number:064x}"


def test_a_hash_is_known_to_every_process_of_the_node(tmp_path: Path) -> None:
    HashMemory(tmp_path / "new").put("state", sha(1))
    assert HashMemory(tmp_path / "new").get("state") == sha(1)
    assert HashMemory(tmp_path / "new").get("other") is None
    HashMemory(tmp_path / "new").put("state", sha(2))
    assert HashMemory(tmp_path / "new").get("state") == sha(2)


def put(folder: Path, number: int) -> None:
    HashMemory(folder).put(str(number), sha(number))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=put, args=(tmp_path, number)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    memory = HashMemory(tmp_path)
    assert [memory.get(str(number)) for number in range(8)] == [sha(number) for number in range(8)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(sha(1).encode(), sha(3).encode()),
        lambda data: b"\xff\x00" + data[2:],
        lambda data: b"",
    ],
)
def test_a_damaged_line_is_forgotten_and_others_are_not(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    HashMemory(tmp_path).put("state", sha(1))
    file = tmp_path / "hashes.txt"
    file.write_bytes(damage(file.read_bytes()))
    HashMemory(tmp_path).put("other", sha(2))
    memory = HashMemory(tmp_path)
    assert memory.get("state") in (None, sha(1))
    assert memory.get("other") == sha(2)


def test_a_folder_that_cannot_be_written_is_named_and_this_process_remembers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    memory = HashMemory(tmp_path / "file")
    with memory.alone():
        memory.put("state", sha(1))
    assert memory.get("state") == sha(1)
    assert "execution.cache_dir or XDG_CACHE_HOME" in caplog.text


def test_the_file_keeps_the_newest_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_memory, "MAX_LINES", 10)
    for number in range(100):
        HashMemory(tmp_path).put(str(number), sha(number))
    memory = HashMemory(tmp_path)
    assert [memory.get(str(number)) for number in range(95, 100)] == [sha(number) for number in range(95, 100)]
    assert memory.get("0") is None
    assert len((tmp_path / "hashes.txt").read_text().split("\n")) <= 12
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
