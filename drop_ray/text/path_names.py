"""Names that become paths: of runs, plans, tasks, texts, revisions, quantizations, and files that a file names.

Whoever takes one up, from a config, a plan file, an index of weights or a commit record, checks it here. The checks
return the text itself, or raise ValueError with the fault and the remedy, without the field, which the caller knows.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# The file of a variant is called by its plan and its quantization, and file systems take 255 bytes.
LONGEST_NAME = 120
LONGEST_PART = 255
SHOWN = 40


def file_name(text: Any) -> str:
    """A name that people give, as the name of one file: plain ASCII, so that no two look alike."""
    if not isinstance(text, str):
        raise ValueError(f"{shown(text)} is not a text; give a name")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"{shown(text)} has {len(text)} characters; give a name of at most {LONGEST_NAME}")
    if not re.fullmatch(NAME, text):
        raise ValueError(
            f"{shown(text)} cannot name a file; use letters, digits, `.`, `_` and `-`, with a letter or digit first"
        )
    return text


def inner_path(text: Any) -> str:
    """A relative path with `/` that stays in the folder that it starts from, also where look-alikes are normalized."""
    if not isinstance(text, str) or not all(map(_stays_inside, {text, unicodedata.normalize("NFKC", text)})):
        raise ValueError(
            f"{shown(text)} is not a path inside its folder; it must be relative, without `..`, `.`, empty parts, "
            "backslashes and control characters"
        )
    return text


def path_or_url(text: str) -> str:
    """A folder, file or URL that a user names: not empty, which would mean the working directory, and no password."""
    if not text.strip():
        raise ValueError("it is empty; name a folder, a file or a URL, and the working directory as `.`")
    if not text.isprintable():
        raise ValueError(f"{shown(text)} has control characters; write the path without them")
    if "://" in text and "@" in urlsplit(text).netloc:
        raise ValueError(
            "it is a URL with a user name or password, which would be written into reports; give credentials by the "
            "environment or a profile"
        )
    return text


def shown(text: Any) -> str:
    """The beginning of a hostile text for a message, with control characters spelled out."""
    if not isinstance(text, str):
        return f"a value of type {type(text).__name__}"
    return ascii(text) if len(text) <= SHOWN else f"{text[:SHOWN]!a}..."


def _stays_inside(text: str) -> bool:
    parts = text.split("/")
    return (
        text.isprintable()
        and "\\" not in text
        and not {"", ".", ".."}.intersection(parts)
        and all(len(part.encode()) <= LONGEST_PART for part in parts)
    )


def tried(path: Path) -> str:
    """A path for messages: a relative one with the place where it was looked for."""
    return str(path) if path.is_absolute() else f"{path} ({path.absolute()})"
