"""Credentials that expire while a run goes on: a request that they were refused for is made again with newer ones.

botocore renews those of instance roles, web identities and processes by itself, if it knows when they end. It reads
others once: a profile's file that somebody keeps fresh, a process that names no end. Also a service may end credentials
before their time. For all of them the search for credentials is begun anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import CredentialRetrievalError, MetadataRetrievalError

from drop_ray.store.s3_refusals import has_expired, may_have_expired
from drop_ray.store.s3fs_private import Credentials, RequestsOfS3

# In these places newer credentials cannot appear while a process runs.
FIXED_SOURCES = {"env", "explicit"}
NO_RENEWAL = (CredentialRetrievalError, MetadataRetrievalError)


class Renewal:
    """The credentials of one connection."""

    def __init__(self, connection: RequestsOfS3) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._used: Credentials | None = None
        self._have_worked = False

    async def send(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Make a request; once more, if credentials were refused and there are newer ones."""
        used = self._used
        try:
            answer = await request()
        except OSError as error:
            if not may_have_expired(error) or not await self._renew(used):
                raise
            answer = await request()
        self._have_worked = True
        return answer

    def is_worth_waiting(self, error: BaseException) -> bool:
        """Whether newer credentials may come: these were good, and somebody or something renews them."""
        if isinstance(error, NO_RENEWAL):
            return self._have_worked
        return has_expired(error) and self._used is not None and self._used.source not in FIXED_SOURCES

    async def _renew(self, refused: Credentials | None) -> bool:
        """Find credentials anew, unless another request has meanwhile. Whether they differ from those refused."""
        async with self._lock:
            if self._used != refused and self._used is not None:
                return True
            before = refused or await self._connection.current_credentials()
            if before is None or before.source in FIXED_SOURCES:
                self._used = before
                return False
            await self._connection.find_credentials_anew()
            self._used = await self._connection.current_credentials()
            return self._used != before
