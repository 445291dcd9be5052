"""Importance by layer for a terminal: a row of cells per module, shaded by rank, the most redundant layer marked.

Shades are of ranks, because scores span decades with most layers close together: on a linear or a logarithmic scale
the many redundant layers, which are the ones to tell apart, would share one shade.
"""

from collections.abc import Mapping

from drop_ray.report.formatting import LEVELS, NO_SCORE

CELL = 2  # columns of a layer
NUMBERED = 8  # every so many layers
MARK = "<"
RESET = "\x1b[0m"
# Of the terminal's 256 colours, bright yellow for redundant to dark violet: told apart without hue, too.
RAMP = (226, 184, 113, 71, 36, 30, 24, 53)
BLACK = 16


def heat_strip(
    title: str, modules: Mapping[str, Mapping[int, float]], num_layers: int, width: int, colour: bool
) -> list[str]:
    """Lines of at most `width` columns, or as many as eight layers take.

    modules: importance by layer of each module; a layer that lacks one has no cell. colour: 256-colour codes, else
    block characters, the higher the more important.
    """
    margin = max(map(len, modules)) + 2
    fitting = max(1, (width - margin) // (CELL * NUMBERED)) * NUMBERED
    lines = [_legend(title, colour)]
    for start in range(0, num_layers, fitting):
        part = range(start, min(start + fitting, num_layers))
        lines.append(" " * margin + _numbers(part))
        for module, importance in modules.items():
            levels = rank_levels(importance, len(LEVELS))
            lowest = most_redundant(importance)
            cells = "".join(_cell(levels.get(layer), layer == lowest, colour) for layer in part)
            lines.append(f"{module:{margin}}{cells}{RESET if colour else ''}")
    return lines


def rank_levels(importance: Mapping[int, float], count: int) -> dict[int, int]:
    """Levels 0 to count - 1 by rank, each for as many layers as the next; equal values share the lower level."""
    order = sorted(importance.values())
    return {layer: order.index(value) * count // len(order) for layer, value in importance.items()}


def most_redundant(importance: Mapping[int, float]) -> int:
    """The layer that is dropped first: of equal ones the deepest, as in planning."""
    return min(importance, key=lambda layer: (importance[layer], -layer))


def _legend(title: str, colour: bool) -> str:
    shades = "".join(_background(level) + " " for level in range(len(LEVELS))) + RESET if colour else LEVELS
    return f"{title}, ranked in each row: redundant {shades} important, {MARK} lowest"


def _numbers(layers: range) -> str:
    return "".join(f"{layer:<{CELL * NUMBERED}}" for layer in layers if layer % NUMBERED == 0).rstrip()


def _cell(level: int | None, marked: bool, colour: bool) -> str:
    mark = MARK if marked else " "
    if level is None:
        return f"{RESET if colour else ''}{NO_SCORE} "
    if colour:
        return _background(level) + mark + mark
    return LEVELS[level] + (MARK if marked else LEVELS[level])


def _background(level: int) -> str:
    return f"\x1b[38;5;{BLACK};48;5;{RAMP[level]}m"
