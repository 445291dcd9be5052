"""Hashes of a run's texts: of the bytes that a file has now, and read once as long as it stays what it is."""

import hashlib
import os

import pytest

from drop_ray.errors import UserError
from drop_ray.job.file_hash import file_sha256


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def reads(monkeypatch):
    """The files that were read to be hashed."""
    names, digest = [], hashlib.file_digest

    def counted(file, algorithm):
        names.append(file.name)
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return names


def test_a_file_is_read_once_however_many_units_need_its_hash(tmp_path, reads):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text(path.name)
    assert [[file_sha256(path, "field") for path in paths] for _ in range(5)] == [
        [sha256("a.txt"), sha256("b.txt")]
    ] * 5
    assert reads == [*map(str, paths)]


def test_a_file_that_is_written_to_is_hashed_anew(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one")
    assert file_sha256(path, "field") == sha256("one")
    path.write_text("three")
    assert file_sha256(path, "field") == sha256("three")


def test_a_file_that_is_replaced_by_one_of_equal_size_and_time_is_hashed_anew(tmp_path):
    path, other = tmp_path / "text.txt", tmp_path / "other.txt"
    path.write_text("one")
    assert file_sha256(path, "field") == sha256("one")
    other.write_text("two")
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert file_sha256(path, "field") == sha256("two")


def test_a_relative_path_is_that_of_the_folder_one_is_in(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(name)
    hashes = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        hashes.append(file_sha256((tmp_path / name / "text.txt").relative_to(tmp_path / name), "field"))
    assert hashes == [sha256("one"), sha256("two")]


def test_what_is_no_file_is_named_with_its_field(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one")
    file_sha256(path, "calibration.source")
    path.unlink()
    for missing in (path, tmp_path):
        with pytest.raises(UserError, match=f"calibration.source: {missing} is not a file"):
            file_sha256(missing, "calibration.source")
