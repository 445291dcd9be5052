"""Opens a store by its folder or URL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.store.local_files import LocalFiles
from drop_ray.store.store import Store
from drop_ray.text.path_names import path_or_url


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at a local folder or at `s3://bucket/prefix`. Nothing is read or written yet.

    `options` are arguments of `drop_ray.store.s3_connection.S3Connection`, such as `endpoint_url`. Raises UserError for
    any other kind of URL, for an empty one, and for options with a folder.
    """
    try:
        path_or_url(url)
    except ValueError as error:
        raise UserError(f"store: {error}") from error
    scheme, separator, root = url.partition("://")
    if not separator:
        if options:
            raise UserError(f"store: options {sorted(options)} are for s3:// only, not for the folder {url}")
        return Store(LocalFiles(Path(url).expanduser().absolute()))
    if scheme != "s3" or not root.strip("/"):
        raise UserError(f"store: {url} is neither a local folder nor s3://bucket/prefix")
    from drop_ray.store.s3 import S3Files  # s3fs and botocore take 0.3 s to import

    return Store(S3Files(root.strip("/"), options or {}))
