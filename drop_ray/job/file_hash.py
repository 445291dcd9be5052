"""Hashes of the files that a config names: a text is hashed once a run, however many units are made of it."""

import hashlib
from functools import cache
from pathlib import Path

from drop_ray.config.places import check_file


def file_sha256(path: Path, field: str) -> str:
    """Of the bytes that the file has now; one that is as it was when it was last hashed is not read again."""
    check_file(field, path)
    status = path.stat()
    # ctime too: programs that copy files set mtime to the original's, and nothing sets ctime.
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _sha256(path, state)


@cache
def _sha256(path: Path, state: tuple[int, ...]) -> str:  # noqa: ARG001 - what is remembered is the file in this state
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
