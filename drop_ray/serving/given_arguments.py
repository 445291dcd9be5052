"""The arguments of vLLM's server as values, by vLLM's own parser: only those that were given."""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from drop_ray.errors import UserError

# Of the HTTP server, Ray Serve has these two as well.
ADDRESS = frozenset({"host", "port"})


def given_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by the names of vLLM's fields, plain enough for YAML, as Ray Serve takes them for its engine.

    UserError for what vLLM does not know, and for what is of its HTTP server, in whose place Ray's stands.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import BaseFrontendArgs, make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def add_argument(self, *names: str, **options: Any) -> Any:
            return super().add_argument(*names, **_without_default(options))

        def add_argument_group(self, *texts: Any, **options: Any) -> Any:
            group = super().add_argument_group(*texts, **options)
            add = group.add_argument
            group.add_argument = lambda *names, **options: add(*names, **_without_default(options))
            return group

        def error(self, message: str) -> NoReturn:
            raise UserError(f"vLLM's server: {message}; see python -m vllm.entrypoints.openai.api_server --help")

    given: dict[str, Any] = vars(make_arg_parser(Parser(add_help=False)).parse_args([*arguments]))
    known = {field.name for part in (AsyncEngineArgs, BaseFrontendArgs) for field in fields(part)} | ADDRESS
    if others := sorted(given.keys() - known):
        raise UserError(
            f"--{others[0].replace('_', '-')} is for vLLM's own HTTP server, in whose place Ray Serve's stands; "
            "leave it out"
        )
    return given


def _without_default(options: dict[str, Any]) -> dict[str, Any]:
    kind = options.get("type")
    return {**options, "default": argparse.SUPPRESS, **({"type": _plain(kind)} if kind else {})}


def _plain(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Sections of vLLM's configuration, which are given as JSON, stay as they were given, but are checked."""

    @functools.wraps(parse)  # vLLM's message of a wrong value has its name
    def parsed(text: str) -> Any:
        value = parse(text)
        return json.loads(text) if is_dataclass(value) else value

    return parsed
