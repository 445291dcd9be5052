"""The part of s3fs outside its public interface that drop_ray uses: the two methods that all requests go through.

s3fs repeats a request a number of times, and has no setting for how long. tests/store/test_private_s3fs.py checks every
part, and names the version of s3fs that changed one.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import s3fs
from botocore.exceptions import ClientError
from fsspec.asyn import sync


class RequestsOfS3(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs with two hooks for a subclass: how a request is made, and how a file is read.

    Expected of `_call_s3(method, *arguments, **named)`: every request is one call of it, and `named["Body"]` has the
    bytes that it uploads. Expected of `_cat_file(path, ...)`: it also reads the answer to the end, and may be repeated.
    Expected of `retries`: the number of tries that s3fs makes itself.
    """

    retries = 1

    async def make_request(self, send: Callable[[], Awaitable[Any]], body_bytes: int) -> Any:
        """The answer of `send`, which uploads that many bytes."""
        raise NotImplementedError

    async def read_file(self, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """The bytes that `fetch` returns; it makes requests of its own."""
        raise NotImplementedError

    def call(self, method: str, **arguments: Any) -> Any:
        """One request of botocore's S3 client, by the name of its method."""
        return sync(self.loop, partial(self._call_s3, method, **arguments))

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        send = partial(super()._call_s3, method, *arguments, **named)
        return await self.make_request(send, len(named.get("Body") or b""))

    async def _cat_file(self, path: str, *arguments: Any, **named: Any) -> Any:
        return await self.read_file(partial(super()._cat_file, path, *arguments, **named))


def service_error(error: BaseException) -> ClientError | None:
    """The service's answer, if that is the cause of `error`.

    Expected: s3fs raises an OSError whose cause is the `ClientError` with the service's code and status. An error
    without such a cause comes from the connection.
    """
    return error.__cause__ if isinstance(error.__cause__, ClientError) else None
