"""The parser of the command line: argparse's, which also knows its own arguments, and what follows `--`."""

import argparse
import sys
from typing import Any


class Parser(argparse.ArgumentParser):
    """What follows `--` is for the program that a command runs, also behind options, where argparse refuses it."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.actions: list[argparse.Action] = []
        self.commands: dict[str, Parser] = {}
        super().__init__(*args, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """As argparse's; the argument is kept in `actions`, but for the help that argparse adds by itself."""
        action = super().add_argument(*args, **kwargs)
        if action.dest != "help":
            self.actions.append(action)
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        place = [*given, "--"].index("--")
        options, unknown = super().parse_known_args(given[:place], namespace)
        if passed := given[place + 1 :]:
            if "arguments" not in options:
                self.error(f"{options.command} runs no program that {passed[0]} could be for")
            options.arguments = [*options.arguments, *passed]
        return options, unknown
