"""Bytes and text of files from outside: regular files of a bounded size, in UTF-8.

`what` begins every error: the user's name for the file, which has its path or the field that names it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.text.units import human_bytes

# Files of settings are a few kilobytes, and a large tokenizer.json is 40 MB.
SETTINGS_LIMIT = 128 << 20
# A text is held in memory as a whole.
TEXT_LIMIT = 4 << 30
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
LEAST_PIECE = 1 << 16


def read_bytes(path: Path, what: str, limit: int = SETTINGS_LIMIT) -> bytes:
    """All bytes of a regular file.

    UserError if there is none, for a folder, a device or a named pipe, and above `limit` bytes. None of them is waited
    for.
    """
    try:
        # Opening a named pipe waits for a writer, unless it is told not to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{what}: is {_kind(status.st_mode)}, not a file")
            data = None if status.st_size > limit else _read(descriptor, status.st_size, limit)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UserError(f"{what}: no such file") from error
    except OSError as error:
        raise UserError(f"{what}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with NUL or half of a surrogate pair
        raise UserError(f"{what}: is no path of a file: {error}") from error
    if data is None:
        raise UserError(f"{what}: is larger than {human_bytes(limit)}; give a smaller file")
    return data


def read_text(path: Path, what: str, limit: int = TEXT_LIMIT) -> str:
    """The text of a file in UTF-8, with line feeds at the ends of lines, whatever stands there in the file."""
    return decode(read_bytes(path, what, limit), what).replace("\r\n", "\n").replace("\r", "\n")


def decode(data: bytes, what: str) -> str:
    """Text of UTF-8, without a byte order mark. UserError, with the line, for another encoding."""
    try:
        return data.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        if data.startswith(WIDE_MARKS):
            raise UserError(f"{what}: is in UTF-16; save it as UTF-8") from error
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(f"{what}: line {line} is not UTF-8 (byte 0x{byte:02X}); save the file as UTF-8") from error


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank. Only a line feed ends a line: JSON may hold any other mark."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \t\r"):
            yield number, line


def _read(descriptor: int, size: int, limit: int) -> bytes | None:
    """All bytes; None above the limit. Some files of the system say that they are empty, and go on for ever."""
    pieces, count = [], 0
    while data := os.read(descriptor, max(size - count + 1, LEAST_PIECE)):
        pieces.append(data)
        count += len(data)
        if count > limit:
            return None
    return b"".join(pieces)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
