"""Credentials among `execution.store_options`: used in memory, and masked in whatever is written or logged.

s3fs takes them as options of many names and depths, so a text is shown only under a name that is known to hold none.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"
# Texts that are worth seeing in a report, of s3fs, botocore's client and its configuration.
SHOWN = {
    "addressing_style",
    "api_version",
    "endpoint_url",
    "mode",
    "profile",
    "region_name",
    "signature_version",
    "ACL",
    "ServerSideEncryption",
    "StorageClass",
}
SECRET_NAME = re.compile(
    r"(^|_)key$|access_?key|customer_?key|secret|token|passw|pwd|credential|authorization|cookie", re.IGNORECASE
)
LOGIN = re.compile(r"://[^/?#]*@")
# Shorter texts are no credentials, and stand in ordinary words.
SHORTEST = 8
INSTEAD = "give credentials by the environment, a profile or an instance role (docs/operations.md, Secrets)"


def masked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they may be written: numbers, switches and known texts, and MASK in place of everything else."""
    return {str(name): _masked(str(name), value) for name, value in options.items()}


def check_options(options: Mapping[str, Any]) -> None:
    """ValueError for options that were masked when a run wrote them, and for an endpoint that carries credentials.

    botocore names the endpoint in its errors.
    """
    for path, name, value in _texts(options, ""):
        if value == MASK:
            raise ValueError(f"`{path}` is masked, since a run wrote this config; leave it out, and {INSTEAD}")
        if name == "endpoint_url" and (LOGIN.search(value) or "?" in value):
            raise ValueError(f"`{path}` has a user name, a password or a query; write the address alone, and {INSTEAD}")


def secret_options(options: Mapping[str, Any]) -> list[str]:
    """Paths of the options that are credentials: `key`, `client_kwargs.aws_session_token`."""
    return [path for path, name, value in _texts(options, "") if SECRET_NAME.search(name) or LOGIN.search(value)]


def secret_texts(options: Mapping[str, Any]) -> list[str]:
    """The credentials among options, or variables of the environment: what must stand in no log."""
    return [value for _, name, value in _texts(options, "") if SECRET_NAME.search(name) and len(value) >= SHORTEST]


def _masked(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if SECRET_NAME.search(name):
        return MASK
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked(name, item) for item in value]
    if isinstance(value, int | float) or (name in SHOWN and isinstance(value, str)):
        return value
    return MASK


def _texts(value: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Every value at any depth as text, with its path and the last name of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, path)
    elif value is not None and not isinstance(value, bool):
        yield path, path.rpartition(".")[2], str(value)
