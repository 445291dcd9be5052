"""`drop-ray completion SHELL`: prints what bash, zsh or fish needs to complete commands, options and their values."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drop_ray.commands.arguments import add_command
from drop_ray.commands.completion_scripts import SCRIPTS, Command, Option

if TYPE_CHECKING:
    from drop_ray.commands.parser import Parser

HELP = Option(("-h", "--help"), "show this help message and exit", takes_value=False)


def add(subparsers: Any) -> None:
    text = "print a script for bash, zsh or fish that completes the words of drop-ray"
    command = add_command(subparsers, "completion", text, run)
    command.add_argument("shell", choices=tuple(SCRIPTS), help="the shell; `source <(drop-ray completion bash)`")


def run(options: argparse.Namespace) -> int:
    parser: Parser = options.parser
    fields = tuple(_fields())
    commands = [_command(name, each, fields) for name, each in parser.commands.items()]
    common = [HELP, *_options(parser, ())]
    print(SCRIPTS[options.shell](commands, common), end="")
    return 0


def _command(name: str, parser: "Parser", fields: tuple[str, ...]) -> Command:
    arguments = [action for action in parser.actions if not action.option_strings]
    words = tuple(word for action in arguments for word in action.choices or ())
    return Command(name, parser.description or "", (HELP, *_options(parser, fields)), words)


def _options(parser: "Parser", fields: tuple[str, ...]) -> Iterator[Option]:
    for action in parser.actions:
        if action.option_strings:
            is_field = action.dest == "overrides"
            yield Option(
                tuple(action.option_strings),
                (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%"),
                takes_value=action.nargs != 0,
                values=fields if is_field else tuple(map(str, action.choices or ())),
                goes_on=is_field,
            )


def _fields() -> Iterator[str]:
    """Fields that `--set` takes, but for those of entries of lists, whose numbers only the config knows."""
    from drop_ray.config.reference import config_sections

    for section in config_sections():
        if "[]" not in section.path:
            yield from (f"{field.path}=" for field in section.fields if not field.subsection)
