"""Files from outside: only regular ones of a bounded size are read, and text is UTF-8."""

import os
import socket

import pytest

from drop_ray.errors import UserError
from drop_ray.reading.files import decode, json_lines, read_bytes, read_text


def test_bytes_are_those_of_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x00\xff" * 100_000)
    assert read_bytes(path, "plan", limit=200_000) == b"\x00\xff" * 100_000
    with pytest.raises(UserError, match=r"^plan: is larger than 195\.3 KiB; give a smaller file$"):
        read_bytes(path, "plan", limit=199_999)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "hidden").write_bytes(b"")
    (tmp_path / "hidden").chmod(0)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    # The path of a socket is short.
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        faults = {
            "pipe": "is a named pipe, not a file",
            ".": "is a folder, not a file",
            "/dev/zero": "is a device or a socket, not a file",
            "none": "no such file",
            "hidden/below": "cannot be read: Not a directory",
            "loop": "cannot be read: Too many levels of symbolic links",
            "socket": "cannot be read: No such device or address",
            "x" * 300: "cannot be read: File name too long",
            "a\0b": "is no path of a file: embedded null byte",
        }
        for path, fault in faults.items():
            with pytest.raises(UserError) as caught:
                read_bytes(path, "config.json")
            assert str(caught.value) == f"config.json: {fault}"
        if os.getuid():
            with pytest.raises(UserError, match=r"^config\.json: cannot be read: Permission denied$"):
                read_bytes(tmp_path / "hidden", "config.json")


def test_a_file_that_says_it_is_empty_and_goes_on_for_ever_is_cut_off():
    with pytest.raises(UserError, match=r"^source: is larger than 100\.0 KiB"):
        read_bytes("/proc/self/pagemap", "source", limit=102_400)


def test_text_is_utf_8_without_a_mark_and_with_line_feeds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "é\r\nb\rc\u2028d\x85e\n".encode())
    assert read_text(path, "source") == "é\nb\nc\u2028d\x85e\n"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a\nb\ncaf\xe9\n", r"^source: line 3 is not UTF-8 \(byte 0xE9\); save the file as UTF-8$"),
        ("text".encode("utf-16"), r"^source: is in UTF-16; save it as UTF-8$"),
        (b"\xed\xa0\x80", r"^source: line 1 is not UTF-8 \(byte 0xED\)"),  # half of a surrogate pair
    ],
)
def test_another_encoding_is_named_with_its_line(data, fault):
    with pytest.raises(UserError, match=fault):
        decode(data, "source")


def test_only_a_line_feed_ends_a_line_of_json_and_blank_lines_count():
    text = '"a\u2028b\x85c\x0cd\x1ce"\r\n \t\r\n\n{"f": 1}'
    assert list(json_lines(text)) == [(1, '"a\u2028b\x85c\x0cd\x1ce"\r'), (4, '{"f": 1}')]
