"""The part of s3fs outside its public interface that drop_ray uses: the two methods that all requests go through.

s3fs repeats a request a number of times, and has no setting for how long. tests/store/test_private_s3fs.py checks every
part, and names the version of s3fs that changed one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import s3fs
from botocore.exceptions import ClientError
from fsspec.asyn import sync


@dataclass(frozen=True)
class Request:
    """One request, for messages."""

    method: str
    """Name of the client's method, such as `put_object`."""
    bucket: str
    """The bucket."""
    key: str
    """The object, or the prefix of those that are listed."""

    def __str__(self) -> str:
        return f"{self.method} of s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Credentials:
    """What requests are signed with."""

    source: str
    """botocore's name for where they were found, such as `env` or `iam-role`."""
    key: tuple[str | None, str | None] = field(repr=False)
    """Access key and token, which differ from those of newer credentials."""


class RequestsOfS3(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs with two hooks for a subclass: how a request is made, and how a file is read.

    Expected of `_call_s3(method, *arguments, **named)`: every request is one call of it, and `named["Body"]` has the
    bytes that it uploads. Expected of `_cat_file(path, ...)`: it also reads the answer to the end, and may be repeated.
    Expected of `retries`: the number of tries that s3fs makes itself. Expected of `set_session(refresh=True)`: a new
    session and client, kept as `session` and used from the next request on; `key` and `token` are its own arguments.
    """

    retries = 1

    async def make_request(self, send: Callable[[], Awaitable[Any]], body_bytes: int, request: Request) -> Any:
        """The answer of `send`, which uploads that many bytes."""
        raise NotImplementedError

    async def read_file(self, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """The bytes that `fetch` returns; it makes requests of its own."""
        raise NotImplementedError

    async def current_credentials(self) -> Credentials | None:
        """Those that requests are signed with; None without any."""
        await self.set_session()
        if self.anon or self.key:
            return Credentials("explicit", (self.key, self.token)) if self.key else None
        found = await self.session.get_credentials()
        if found is None:
            return None
        frozen = await found.get_frozen_credentials()
        return Credentials(found.method, (frozen.access_key, frozen.token))

    async def find_credentials_anew(self) -> None:
        """Look for credentials as at the start, and sign with them from now on."""
        await self.set_session(refresh=True)

    def call(self, method: str, **arguments: Any) -> Any:
        """One request of botocore's S3 client, by the name of its method."""
        return sync(self.loop, partial(self._call_s3, method, **arguments))

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        send = partial(super()._call_s3, method, *arguments, **named)
        request = Request(method, named.get("Bucket", ""), named.get("Key", named.get("Prefix", "")))
        return await self.make_request(send, len(named.get("Body") or b""), request)

    async def _cat_file(self, path: str, *arguments: Any, **named: Any) -> Any:
        return await self.read_file(partial(super()._cat_file, path, *arguments, **named))


def service_error(error: BaseException) -> ClientError | None:
    """The service's answer, if that is the cause of `error`.

    Expected: s3fs raises an OSError whose cause is the `ClientError` with the service's code and status. An error
    without such a cause comes from the connection.
    """
    return error.__cause__ if isinstance(error.__cause__, ClientError) else None
