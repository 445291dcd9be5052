"""The file operations of the store on S3 and its like, through s3fs; imported only when an `s3://` URL is opened."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import s3fs
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from drop_ray.store.steps import Output

# Without the listings cache, because it hides what other writers have added; finite waits, because botocore's default
# retries can hold a dead endpoint for many minutes.
S3FS_OPTIONS: Mapping[str, Any] = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 30,
        "read_timeout": 120,
        "retries": {"max_attempts": 5, "mode": "standard"},
    },
}
# Error codes of a conditional PUT that lost: to an object that exists, or to a PUT or DELETE in progress.
LOST_CREATE = {"PreconditionFailed", "ConditionalRequestConflict"}


class S3Files:
    """A bucket, or a prefix of one, as `drop_ray.store.filesystem.Files`.

    Endpoint, region and credentials come from `options` (arguments of `s3fs.S3FileSystem`, which win) or from the
    standard chain (`AWS_ENDPOINT_URL`, `AWS_PROFILE`, an instance role). The connection is opened on first use: it is
    neither pickled nor shared by a fork.
    """

    failures: tuple[type[Exception], ...] = (OSError, BotoCoreError)

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._root = root
        self._options = {**S3FS_OPTIONS, **options}

    @property
    def _s3(self) -> Any:
        """The connection of this process: fsspec keeps one for equal options, and opens another after a fork."""
        return s3fs.S3FileSystem(**self._options)

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}"

    def absolute(self, path: str) -> str:
        return f"s3://{self._key(path)}"

    def remedy(self, error: Exception) -> str:
        bucket = self._root.partition("/")[0]
        if isinstance(error, FileNotFoundError):
            return f"create the bucket {bucket}, or correct its name"
        if isinstance(error, PermissionError):
            return f"grant s3:ListBucket on {bucket}, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
        if isinstance(error, NoCredentialsError):
            return "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with an instance role"
        return "check the bucket's name, AWS_ENDPOINT_URL and AWS_REGION"

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._s3.pipe_file(self._key(path), data, mode="create")
        except OSError as error:
            # Not FileExistsError: s3fs raises that only for servers whose answer names the failed condition.
            if isinstance(error.__cause__, ClientError) and error.__cause__.response["Error"]["Code"] in LOST_CREATE:
                return False
            raise
        return True

    def replace(self, path: str, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            self._s3.pipe_file(self._key(path), data)
        else:
            self._s3.put_file(str(data), self._key(path))

    def upload(self, source: Path, path: str) -> Output:
        with source.open("rb") as reader:
            digest = hashlib.file_digest(reader, "sha256")
            size = reader.tell()
        # Transport errors are found by botocore's own checksums; put_file aborts a failed multipart upload.
        self._s3.put_file(str(source), self._key(path))
        return Output(size, digest.hexdigest())

    def read(self, path: str) -> bytes:
        # In one GET: the concurrent form asks for the size first, twice the requests for records and tables.
        data: bytes = self._s3.cat_file(self._key(path), max_concurrency=1)
        return data

    def exists(self, path: str) -> bool:
        found: bool = self._s3.exists(self._key(path))
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        prefix = self._key(folder)
        found = self._s3.find(prefix, detail=True)
        return {key.removeprefix(f"{prefix}/"): entry["size"] for key, entry in found.items()}

    def names(self, folder: str) -> list[str]:
        try:
            found = self._s3.ls(self._key(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(key.rstrip("/").rpartition("/")[2] for key in found)

    def remove(self, path: str) -> None:
        self._s3.rm_file(self._key(path))

    def remove_folder(self, folder: str) -> None:
        for path in self.sizes(folder):
            self.remove(f"{folder}/{path}")
