"""The connection to a cluster's job server, with bounded waits and errors that say what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError

from drop_ray.errors import UserError
from drop_ray.runtime.ray_private import JobClient

# What Ray's client raises if there was no answer, or if the answer was an error. Its HTTP library raises OSErrors.
NO_ANSWER = (RuntimeError, OSError, AuthenticationError)
# Ray puts these before the address that it is given.
OTHER_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def connect(address: str) -> JobClient:
    """A client of the cluster at `address`.

    UserError if nothing answers there, if the cluster has another token, or if its Ray has another version.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address: {address} is no address of a Ray dashboard, such as http://HEAD:8265")
    try:
        with _only_the_given_address():
            client = JobClient(address)
        found = client.ray_version()
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
