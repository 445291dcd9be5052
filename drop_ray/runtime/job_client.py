"""The connection to a cluster's job server, with bounded waits and errors that say what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from drop_ray.errors import UserError

# Raised by Ray's client when there was no answer, or an error for an answer. Its HTTP library raises OSErrors.
NO_ANSWER = (RuntimeError, OSError, AuthenticationError)
# Seconds to connect, and between two bytes of an answer; an upload counts as an answer that comes late.
TIMEOUT = (10, 120)
# Ray puts these before the address that it is given.
OTHER_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class JobClient(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which would wait for an answer for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=TIMEOUT, **options)


def connect(address: str) -> JobClient:
    """A client of the cluster at `address`.

    UserError if nothing answers there, if the cluster has another token, or if its Ray has another version.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address: {address} is no address of a Ray dashboard, such as http://HEAD:8265")
    try:
        with _only_the_given_address():
            client = JobClient(address)
        found = str(client._do_request("GET", "/api/version").json()["ray_version"])
    except AuthenticationError as error:
        raise UserError(
            f"--address: {address} wants another token ({str(error).splitlines()[0]}); set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's, or put it into ~/.ray/auth_token"
        ) from error
    except (*NO_ANSWER, ValueError, KeyError) as error:
        raise UserError(
            f"--address: {address} does not answer as a Ray cluster does ({first_line(error)}); "
            "give the dashboard's address, and see that it can be reached from here"
        ) from error
    if found.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise UserError(
            f"--address: the cluster at {address} runs Ray {found}, drop_ray here is for {ray.__version__}; "
            "use an image with that version"
        )
    return client


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _only_the_given_address() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in OTHER_ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
