"""A model's folder behind a URL (S3, or whatever fsspec knows): small files are fetched once, weights read by range."""

import atexit
import base64
import json
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from drop_ray.errors import StoreRefusedError, UserError
from drop_ray.models.files.model_folder import ByteSource, FileState, ended_early, is_small_file, read_bytes
from drop_ray.reading.files import SETTINGS_LIMIT
from drop_ray.store.ranges import fill_ranges
from drop_ray.text.units import human_bytes

FETCH_BYTES = 128 << 20
S3_SCHEME = "s3://"


@dataclass(frozen=True)
class RemoteFolder:
    """A model's folder behind a URL, listed by `open_remote_folder`."""

    location: str
    """The URL that the user gave, for messages."""
    folder: Path
    """A local folder with the small files."""
    filesystem: Any
    """The fsspec file system."""
    root: str
    """Path of the folder in the file system."""
    sizes: Mapping[str, int]
    """Size in bytes of each file directly in it, by name."""
    etags: Mapping[str, str]
    """The etag of each file on S3, by name, which changes with its bytes."""

    @property
    def names(self) -> list[str]:
        return sorted(self.sizes)

    def source(self, name: str) -> ByteSource:
        return RemoteSource(f"{self.location}/{name}", self.sizes[name], self.filesystem, f"{self.root}/{name}")

    def fetch(self, names: Collection[str], target: Path) -> None:
        """Copy whole files to a local folder. UserError if one of them was replaced meanwhile."""
        buffer = memoryview(bytearray(min(max(self.sizes[name] for name in names), FETCH_BYTES)))
        for name in names:
            source, size = self.source(name), self.sizes[name]
            with (target / name).open("xb") as file:
                for start in range(0, size, FETCH_BYTES):
                    piece = buffer[: size - start]
                    source.fill([(start, piece)])
                    file.write(piece)
        sizes, etags = _list(self.filesystem, self.root)
        changed = [name for name in names if (sizes.get(name), etags.get(name)) != (self.sizes[name], self.etags[name])]
        if changed:
            raise UserError(f"model.path: {self.location}/{changed[0]} was replaced while it was fetched; start again")


@dataclass(frozen=True)
class RemoteSource:
    """A file of weights behind a URL."""

    location: str
    """URL of the file, for messages."""
    size: int
    """Size in bytes."""
    filesystem: Any
    """The fsspec file system."""
    path: str
    """Path of the file in the file system."""

    def fill(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        missing = fill_ranges(self.filesystem, self.path, pieces)
        if missing:
            raise ended_early(self, missing)

    def state(self) -> FileState | None:
        """Known on S3 only: the ETag changes with the bytes."""
        if not self.location.startswith(S3_SCHEME):
            return None
        bucket, _, key = self.path.partition("/")
        head = self.filesystem.call("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        version = [self.path, head["ETag"], head.get("VersionId"), head["ContentLength"]]
        checksum = head.get("ChecksumSHA256", "-")
        # One that is made of the checksums of an upload's parts ends with `-` and their number.
        is_whole = "-" not in checksum and head.get("ChecksumType") != "COMPOSITE"
        sha256 = base64.b64decode(checksum).hex() if is_whole else None
        return FileState(S3_SCHEME + json.dumps(version), None, sha256)


def open_remote_folder(url: str, options: Mapping[str, Any]) -> RemoteFolder:
    """List the folder and fetch its small files into a temporary folder of this process.

    `options` are arguments of the file system's class, which for S3 is `S3Connection`. UserError if the folder cannot
    be read.
    """
    url = url.rstrip("/")
    try:
        filesystem, root = _open_filesystem(url, options)
    except (ImportError, ValueError) as error:
        raise UserError(f"model.path: {url} cannot be opened: {error}") from error
    root = root.rstrip("/")
    folder = Path(tempfile.mkdtemp(prefix="drop-ray-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        sizes, etags = _list(filesystem, root)
        remote = RemoteFolder(url, folder, filesystem, root, sizes, etags)
        for name in filter(is_small_file, sizes):
            if sizes[name] > SETTINGS_LIMIT:
                raise UserError(f"model.path: {url}/{name} is larger than {human_bytes(SETTINGS_LIMIT)}; remove it")
            (folder / name).write_bytes(read_bytes(remote.source(name), 0, sizes[name]))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"model.path: there is nothing at {url}; correct the bucket or the prefix") from error
    except StoreRefusedError as error:
        raise UserError(f"model.path: {error}") from error
    except Exception as error:  # each storage raises errors of its own library
        raise UserError(
            f"model.path: {url} cannot be read ({error}); check the URL, the endpoint, and that the credentials "
            "(AWS_PROFILE, AWS_ACCESS_KEY_ID, an instance role) may list the folder and get its files"
        ) from error
    return remote


def _list(filesystem: Any, root: str) -> tuple[dict[str, int], dict[str, str]]:
    """Sizes and etags of the files directly in a folder, by name."""
    entries = {
        entry["name"].rpartition("/")[2]: entry for entry in filesystem.ls(root, detail=True) if entry["type"] == "file"
    }
    sizes = {name: entry["size"] for name, entry in entries.items()}
    return sizes, {name: entry["ETag"] for name, entry in entries.items() if "ETag" in entry}


def _open_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system behind a URL, and the path there."""
    if not url.startswith(S3_SCHEME):
        filesystem, path = fsspec.core.url_to_fs(url, **options)
        return filesystem, path
    from drop_ray.store.s3_connection import connect  # imports s3fs

    return connect(options), url.removeprefix(S3_SCHEME)
