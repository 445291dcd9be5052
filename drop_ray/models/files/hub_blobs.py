"""The Hugging Face cache names a large file by the sha256 of its bytes, which then need not be read to be known.

A file of a snapshot is a link to `../../blobs/{etag}` (deeper for files in subfolders). The hub's etag of a file in Git
LFS or Xet is the sha256 of its content, and of a small file the shorter hash of a Git object: see
`huggingface_hub.hf_hub_download` and `huggingface_hub.file_download.REGEX_SHA256`.
"""

import re
from pathlib import Path

# The Hugging Face cache keeps a snapshot's files as links to ../../blobs.
SNAPSHOTS, BLOBS = "snapshots", "blobs"
SHA256 = re.compile(r"[0-9a-f]{64}")


def blob_sha256(path: Path) -> str | None:
    """The sha256 that the hub gave for a file of a snapshot; None for any other file."""
    if not path.is_symlink():
        return None
    blob = path.parent / path.readlink()
    snapshot = path.parent
    is_own = snapshot.parent.name == SNAPSHOTS and blob.parent.resolve() == snapshot.parent.parent.resolve() / BLOBS
    return blob.name if is_own and SHA256.fullmatch(blob.name) else None


def hub_name(folder: Path) -> tuple[str, str] | None:
    """The name and the commit of which a folder is the snapshot in the Hugging Face cache; None for any other folder.

    It is `models--org--name/snapshots/COMMIT`: see `huggingface_hub.file_download.repo_folder_name`.
    """
    kind, *parts = folder.parent.parent.name.split("--")
    if folder.parent.name != SNAPSHOTS or kind != "models" or not parts:
        return None
    return "/".join(parts), folder.name
