"""The file operations of the store on S3 and compatible storage, by s3fs.

This module is imported only when an `s3://` URL is opened.
"""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from os.path import commonprefix
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError

from drop_ray.errors import StoreOutageError
from drop_ray.store.filesystem import Stored, Upload
from drop_ray.store.ranges import fill_ranges
from drop_ray.store.s3_connection import S3Connection, connect
from drop_ray.store.s3fs_private import service_error
from drop_ray.store.steps import Output

# Larger files are uploaded in parts, several at a time. S3 accepts at most 10,000 parts.
PART_BYTES = 16 << 20
PARTS_AT_ONCE = 8
MAX_PARTS = 10_000
DOWNLOAD_BYTES = 128 << 20
# So many folders are listed one by one, at once. A listing of all is of as many pages as there are thousands of files.
LISTED_ALONE = 8
# Error codes of a conditional PUT that lost to an object that exists, or to a PUT or DELETE in progress.
LOST_CREATE = {"PreconditionFailed", "ConditionalRequestConflict"}


class S3Files:
    """A bucket, or a prefix of one, as `drop_ray.store.filesystem.Files`.

    Endpoint, region and credentials come from `options`, which are arguments of `s3fs.S3FileSystem`, or else from the
    standard chain (`AWS_ENDPOINT_URL`, `AWS_PROFILE`, an instance role). The connection is opened on first use,
    and neither pickled nor shared by a fork. `S3Connection` waits until an outage is over.
    """

    failures: tuple[type[Exception], ...] = (OSError, BotoCoreError)

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._root = root
        self._options = options

    @property
    def _s3(self) -> S3Connection:
        return connect(self._options)

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}"

    def absolute(self, path: str) -> str:
        return f"s3://{self._key(path)}"

    def remedy(self, error: Exception) -> str:
        if isinstance(error, StoreOutageError):
            return "check AWS_ENDPOINT_URL or execution.store_options.endpoint_url, the network, and the service"
        return "check the bucket's name, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._s3.pipe_file(self._key(path), data, mode="create")
        except OSError as error:
            # Not FileExistsError: s3fs raises that only for servers whose answer names the failed condition.
            answer = service_error(error)
            if answer is not None and answer.response["Error"]["Code"] in LOST_CREATE:
                return self._is_own(path, data)
            raise
        return True

    def replace(self, path: str, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            self._s3.pipe_file(self._key(path), data)
        else:
            self._put(data, path)

    def upload(self, source: Path, path: str) -> Output:
        with source.open("rb") as reader:
            digest = hashlib.file_digest(reader, "sha256")
            size = reader.tell()
        try:
            self._put(source, path)
        except FileNotFoundError:
            # The answer to the last request was lost, and repeating it found no upload to finish: nobody else writes
            # here, so a file of this size is this one.
            if self.sizes(path.rpartition("/")[0]).get(path.rpartition("/")[2]) != size:
                raise
        return Output(size, digest.hexdigest())

    def read(self, path: str) -> bytes:
        # One GET. Concurrent reads ask for the size first, which doubles the requests for records and tables.
        data: bytes = self._s3.cat_file(self._key(path), max_concurrency=1)
        return data

    def download(self, path: str, target: BinaryIO) -> Output:
        size = self._s3.info(self._key(path))["size"]
        digest, buffer = hashlib.sha256(), memoryview(bytearray(min(size, DOWNLOAD_BYTES)))
        for start in range(0, size, DOWNLOAD_BYTES):
            piece = buffer[: size - start]
            missing = fill_ranges(self._s3, self._key(path), [(start, piece)])
            if missing:
                raise OSError(f"{self.absolute(path)} was cut while it was read: {missing} bytes are missing")
            digest.update(piece)
            target.write(piece)
        return Output(size, digest.hexdigest())

    def local_path(self, path: str) -> None:  # noqa: ARG002 - no path is local
        return None

    def exists(self, path: str) -> bool:
        found: bool = self._s3.exists(self._key(path))
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        return {path: file.size for path, file in self.inventory(folder).items()}

    def inventory(self, folder: str) -> dict[str, Stored]:
        return self._listed(folder)

    def _listed(self, folder: str, beginning: str = "") -> dict[str, Stored]:
        """The files at any depth, by path, of those in the folder whose names begin so."""
        prefix = self._key(folder).rstrip("/")
        found = self._s3.find(prefix, prefix=beginning, detail=True)
        # Where the listing is empty, s3fs asks for the folder itself, and has that if somebody wrote there in between.
        return {
            key.removeprefix(f"{prefix}/"): Stored(entry["size"], entry["LastModified"].timestamp())
            for key, entry in found.items()
            if entry["type"] != "directory"
        }

    def trees(self, folders: Collection[str]) -> dict[str, dict[str, Stored]]:
        """Listed together, a thousand files a request, unless they are so few that others would fill the listing."""
        if len(folders) <= LISTED_ALONE:
            with ThreadPoolExecutor(LISTED_ALONE, thread_name_prefix="listing") as threads:
                return {
                    folder: tree
                    for folder, tree in zip(folders, threads.map(self.inventory, folders), strict=True)
                    if tree
                }
        shared = commonprefix(list(folders))  # noqa: RUF071 - letters, not path components: so S3 lists
        parent, _, beginning = shared.rpartition("/")
        found: dict[str, dict[str, Stored]] = {folder: {} for folder in folders}
        for path, file in self._listed(parent, beginning).items():
            name, _, inner = path.partition("/")
            if inner and (folder := f"{parent}/{name}") in found:
                found[folder][inner] = file
        return {folder: tree for folder, tree in found.items() if tree}

    def uploads(self) -> list[Upload]:
        bucket, _, prefix = self._root.partition("/")
        found: list[Upload] = []
        position: dict[str, str] = {}
        while True:
            page = self._s3.call(
                "list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", **position
            )
            for upload in page.get("Uploads", []):
                path = f"{bucket}/{upload['Key']}".removeprefix(f"{self._root}/")
                found.append(Upload(path, upload["UploadId"], upload["Initiated"].timestamp()))
            if not page.get("IsTruncated"):
                return found
            position = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def give_up(self, upload: Upload) -> None:
        bucket, _, key = self._key(upload.path).partition("/")
        self._s3.call("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.identifier)

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

    def _put(self, source: Path, path: str) -> None:
        """Upload a file.

        botocore's own checksums find transport errors, and an upload that fails gives up its parts.
        """
        part = max(PART_BYTES, -(-source.stat().st_size // MAX_PARTS))
        self._s3.put_file(str(source), self._key(path), chunksize=part, max_concurrency=PARTS_AT_ONCE)

    def _is_own(self, path: str, data: bytes) -> bool:
        """Whether the existing file is the one to be written, since a request whose answer was lost is made twice."""
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False
