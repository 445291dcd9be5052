"""A connection to S3 that waits out an outage: a request is repeated until it has failed for `outage_s` seconds.

Every request of s3fs that is made here may be repeated: uploads send bytes that are in memory, parts and deletions are
idempotent. Only two kinds of request can succeed and then fail when repeated: a conditional write, and the last request
of a multipart upload. `drop_ray.store.s3` then recognizes its own object.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from http.client import IncompleteRead
from typing import Any, NoReturn

from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ConnectionError, FlexibleChecksumError, HTTPClientError
from botocore.parsers import ResponseParserError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from drop_ray.errors import StoreOutageError, StoreRefusedError
from drop_ray.store.outages import OUTAGES
from drop_ray.store.s3_credentials import Renewal
from drop_ray.store.s3_refusals import has_expired, is_full, refusal
from drop_ray.store.s3fs_private import Request, RequestsOfS3, service_error

logger = logging.getLogger(__name__)

OUTAGE_S = 120.0
"""`execution.store_outage_s`, where no config sets it."""

# Finite waits, and one try per request: the libraries' own retries would multiply with those made here.
CLIENT_OPTIONS: Mapping[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"total_max_attempts": 1},
    # botocore's 10 would be the limit of parallel range requests.
    "max_pool_connections": 64,
}
# Otherwise an upload to a peer that has vanished only ends when the kernel gives up, after a quarter of an hour.
ANSWER_S, SLOWEST_UPLOAD_BYTES_S = 90, 128 << 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
# A single failed request is not logged: large services answer some requests with 503 on any day.
REPORTED_FAILURE = 3

BROKEN_CONNECTION = (
    HTTPClientError,
    ConnectionError,
    ClientPayloadError,
    FlexibleChecksumError,
    IncompleteRead,
    ResponseParserError,
    TimeoutError,
)
# The codes in `botocore.retries.standard` that do not come with a status of 500 or more.
PASSING_CODES = {
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "TooManyRequestsException",
    "XAmzContentSHA256Mismatch",
}


class S3Connection(RequestsOfS3):
    """s3fs, with `outage_s` beside its own arguments. StoreOutageError when a request has failed for that long."""

    def __init__(self, *arguments: Any, outage_s: float = OUTAGE_S, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outage_s = outage_s
        self._outage_is_known = False
        self._renewal = Renewal(self)

    async def make_request(self, send: Callable[[], Awaitable[Any]], body_bytes: int, request: Request) -> Any:
        seconds = ANSWER_S + body_bytes / SLOWEST_UPLOAD_BYTES_S

        # tenacity 9.2 awaits what a coroutine function returns, and nothing else.
        async def answer() -> Any:
            return await self._renewal.send(lambda: asyncio.wait_for(send(), seconds))

        try:
            return await self._patiently(answer)
        except (OSError, BotoCoreError) as error:
            refused = refusal(error, request.bucket, str(request))
            if refused is None:
                raise
            raise refused from (service_error(error) or error)

    async def read_file(self, fetch: Callable[[], Awaitable[Any]]) -> Any:
        """Read a file, again if the connection breaks while the answer is being read."""
        return await self._patiently(fetch)

    async def _patiently(self, request: Callable[[], Awaitable[Any]]) -> Any:
        outage = _Outage(self.outage_s)

        async def attempt() -> Any:
            # tenacity awaits coroutine functions only, and `request` may be any callable that gives an awaitable.
            return await request()

        def report(state: RetryCallState) -> None:
            error, left_s = _failure(state), outage.left_s()
            if self._outage_is_known:
                return
            if has_expired(error):
                logger.warning("the credentials for S3 have expired; waiting for newer ones for %.0f s", left_s)
            elif state.attempt_number >= REPORTED_FAILURE:
                logger.warning("S3 is out of reach (%s); trying again for %.0f s", error, left_s)
            else:
                return
            self._outage_is_known = True
            OUTAGES.began()

        answer: Any = await AsyncRetrying(
            retry=retry_if_exception(lambda error: is_passing(error) or self._renewal.is_worth_waiting(error)),
            wait=outage.pause_s,
            stop=outage.is_too_long,
            before_sleep=report,
            retry_error_callback=outage.give_up,
        )(attempt)
        if self._outage_is_known:
            self._outage_is_known = False
            OUTAGES.ended()
            logger.warning("S3 answers again")
        return answer


class _Outage:
    """The outage that one request meets. It begins with the first failure, however long the request took to fail.

    tenacity calls the methods after each failure.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._began: float | None = None
        self._backoff = wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)

    def left_s(self) -> float:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return self._longest_s - (now - self._began)

    def pause_s(self, state: RetryCallState) -> float:
        # Random, or all workers would repeat their requests at the same moment.
        return min(self._backoff(state) * random.uniform(0.5, 1), self.left_s())

    def is_too_long(self, _: RetryCallState) -> bool:
        return self.left_s() <= 0

    def give_up(self, state: RetryCallState) -> NoReturn:
        error, lasted_s = _failure(state), self._longest_s - self.left_s()
        if not is_passing(error):
            raise error  # expired credentials, of which no newer ones came
        raise StoreOutageError(
            f"S3 was out of reach for {lasted_s:.0f} s (execution.store_outage_s): {error}"
        ) from error


def connect(options: Mapping[str, Any]) -> S3Connection:
    """The connection of this process: fsspec keeps one for equal options, and opens another after a fork.

    options: arguments of `S3Connection`; its `config_kwargs` take precedence over those set here.
    """
    # Without the listings cache, because it hides files that other writers have added.
    merged = {"use_listings_cache": False, **options}
    return S3Connection(**{**merged, "config_kwargs": {**CLIENT_OPTIONS, **options.get("config_kwargs", {})}})


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed later: the network or the service is at fault, not the request."""
    answer = service_error(error)
    if answer is None:
        return isinstance(error, BROKEN_CONNECTION) and not isinstance(error, StoreRefusedError)
    if is_full(error):
        return False
    status = answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return (status >= 500 and status != 501) or status == 429 or answer.response["Error"].get("Code") in PASSING_CODES


def _failure(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # tenacity asks after failures only
    return error
