"""What a shell needs to complete the words of `drop-ray`: one script each for bash, zsh and fish.

The scripts are complete in themselves: no program is started when a word is completed, which would take longer than the
rest of the line. Values that are not listed are completed as files, which configs and models are.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PROGRAM = "drop-ray"


@dataclass(frozen=True)
class Option:
    """An option of a command."""

    names: tuple[str, ...]
    """How it is written: `-v`, `--verbose`."""
    text: str
    """What it does."""
    takes_value: bool
    """Whether the next word is its value."""
    values: tuple[str, ...] = ()
    """What the value may be; empty for a file, or a text of one's own."""
    goes_on: bool = False
    """Whether the values are only beginnings, to which the user adds."""


@dataclass(frozen=True)
class Command:
    """A command of the program."""

    name: str
    """Its name."""
    text: str
    """What it does."""
    options: tuple[Option, ...]
    """Its options."""
    words: tuple[str, ...] = ()
    """What its argument may be; empty for a file."""


def bash(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """Of bash; without bash-completion, which not everybody has."""
    valued = [_bash_case(places, option) for option, places in _valued(commands)]
    options = [f"            {command.name}) words={_words(_names(command.options))} ;;" for command in commands]
    listed = [command for command in commands if command.words]
    arguments = [f"            {command.name}) words={_words(command.words)} ;;" for command in listed]
    first = [*(command.name for command in commands), *_names(common)]
    return f"""\
# bash completion of {PROGRAM}: source <({PROGRAM} completion bash)
_drop_ray() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" word words=""
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if [[ $word != -* ]]; then command=$word; break; fi
    done
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W {_words(first)} -- "$current"))
        return
    fi
    case "$command $before" in
{_lines(valued)}
    esac
    if [[ -z $words && $current == -* ]]; then
        case "$command" in
{_lines(options)}
        esac
    elif [[ -z $words ]]; then
        case "$command" in
{_lines(arguments)}
        esac
    fi
    # Without an answer of ours, bash completes files.
    if [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); fi
}}
complete -o default -F _drop_ray {PROGRAM}
"""


def zsh(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """Of zsh, with what each word means."""
    first = [f"{command.name}:{_plain(command.text)}" for command in commands]
    first += [f"{name}:{_plain(option.text)}" for option in common for name in option.names]
    valued = [_zsh_case(places, option) for option, places in _valued(commands)]
    options = [line for command in commands for line in _zsh_options(command)]
    arguments = [
        f"        {command.name}) compadd -- {shlex.join(command.words)}; return ;;"
        for command in commands
        if command.words
    ]
    return f"""\
#compdef {PROGRAM}
# zsh completion of {PROGRAM}: source <({PROGRAM} completion zsh)
_drop_ray() {{
    local command="" word
    local -a known
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        if [[ $word != -* ]]; then command=$word; break; fi
    done
    if [[ -z $command ]]; then
        known=({shlex.join(first)})
        _describe command known
        return
    fi
    case "$command $words[CURRENT-1]" in
{_lines(valued)}
    esac
    if [[ $words[CURRENT] == -* ]]; then
        case "$command" in
{_lines(options)}
        esac
        _describe option known
        return
    fi
    case "$command" in
{_lines(arguments)}
    esac
    _files
}}
compdef _drop_ray {PROGRAM}
"""


def fish(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """Of fish."""
    lines = [f"# fish completion of {PROGRAM}: {PROGRAM} completion fish | source"]
    alike: dict[Option, list[str]] = {}
    for command in commands:
        text = shlex.quote(_plain(command.text))
        lines.append(f"complete -c {PROGRAM} -f -n __fish_use_subcommand -a {command.name} -d {text}")
        if command.words:
            seen = f"-n '__fish_seen_subcommand_from {command.name}'"
            lines.append(f"complete -c {PROGRAM} -f {seen} -a {_words(command.words)}")
        for option in command.options:
            alike.setdefault(option, []).append(command.name)
    for option, names in alike.items():
        seen = f"-n '__fish_seen_subcommand_from {' '.join(names)}'"
        lines.append(f"complete -c {PROGRAM} {seen} {_fish_option(option)}")
    lines += [f"complete -c {PROGRAM} -n __fish_use_subcommand {_fish_option(option)}" for option in common]
    return "\n".join(lines) + "\n"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}


def _valued(commands: Sequence[Command]) -> list[tuple[Option, str]]:
    """Every option that takes a value, with the commands and names that it is known by, as a pattern of a `case`."""
    places: dict[Option, list[str]] = {}
    for command in commands:
        for option in command.options:
            if option.takes_value:
                places.setdefault(option, []).extend(f'"{command.name} {name}"' for name in option.names)
    return [(option, "|".join(found)) for option, found in places.items()]


def _bash_case(places: str, option: Option) -> str:
    space = "; compopt -o nospace" if option.goes_on else ""
    return f"        {places}) {f'words={_words(option.values)}{space}' if option.values else 'return'} ;;"


def _zsh_case(places: str, option: Option) -> str:
    space = "-S '' " if option.goes_on else ""
    found = f"compadd {space}-- {shlex.join(option.values)}" if option.values else "_files"
    return f"        {places}) {found}; return ;;"


def _zsh_options(command: Command) -> Iterator[str]:
    described = [f"{name}:{_plain(option.text)}" for option in command.options for name in option.names]
    yield f"            {command.name}) known=({shlex.join(described)}) ;;"


def _fish_option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = [] if not option.takes_value else [f"-x -a {_words(option.values)}"] if option.values else ["-r -F"]
    return " ".join([*names, *value, f"-d {shlex.quote(_plain(option.text))}"])


def _names(options: Sequence[Option]) -> list[str]:
    return [name for option in options for name in option.names]


def _words(words: Sequence[str]) -> str:
    return shlex.quote(" ".join(words))


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def _plain(text: str) -> str:
    """A help text as zsh and fish show it: without what zsh takes for the end of the word."""
    return text.replace(":", ",").replace("`", "'")
