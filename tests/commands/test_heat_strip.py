"""The terminal's heat strip, cell by cell."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.commands.heat_strip import CELL, heat_strip, most_redundant, rank_levels

RISING = {layer: 0.001 * 2**layer for layer in range(12)}
FALLING = {layer: 1.0 / (layer + 1) for layer in range(12)}


def test_a_row_a_module_with_a_block_character_per_rank_and_the_lowest_marked():
    assert heat_strip("importance (cosine)", {"attention": RISING, "mlp": FALLING}, 12, 80, colour=False) == [
        "importance (cosine), ranked in each row: redundant ▁▂▃▄▅▆▇█ important, < lowest",
        "           0               8",
        "attention  ▁<▁▁▂▂▃▃▃▃▄▄▅▅▅▅▆▆▇▇▇▇██",
        "mlp        ██▇▇▇▇▆▆▅▅▅▅▄▄▃▃▃▃▂▂▁▁▁<",
    ]


def test_a_layer_without_the_module_has_a_cross():
    lines = heat_strip("t", {"mlp": {0: 0.3, 2: 0.1, 3: 0.2}}, 5, 80, colour=False)
    assert lines[1:] == ["     0", "mlp  ▆▆× ▁<▃▃× "]


def test_colours_are_of_the_256_and_end_with_the_row():
    lines = heat_strip("t", {"mlp": {0: 0.3, 1: 0.1}}, 3, 80, colour=True)
    assert lines[2] == "mlp  \x1b[38;5;16;48;5;36m  \x1b[38;5;16;48;5;226m<<\x1b[0m× \x1b[0m"
    assert lines[0].endswith("\x1b[38;5;16;48;5;53m \x1b[0m important, < lowest")


@pytest.mark.parametrize("colour", [False, True])
def test_eighty_layers_wrap_at_a_numbered_layer(colour):
    importance = {layer: abs(layer - 50) + 0.5 * (layer > 50) for layer in range(80)}
    modules = dict.fromkeys(("attention", "mlp", "block"), importance)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in heat_strip("t", modules, 80, 80, colour)]
    assert max(map(len, lines)) <= 80
    numbers = [list(map(int, re.findall(r"\d+", line))) for line in lines[1::4]]
    assert numbers == [[0, 8, 16, 24], [32, 40, 48, 56], [64, 72]]
    rows = [line.removeprefix("attention  ") for line in lines if line.startswith("attention")]
    assert sum(map(len, rows)) == 80 * CELL
    assert rows[1].index("<") // CELL + 32 == 50


def test_a_narrow_terminal_still_gets_eight_layers_a_line():
    assert len(heat_strip("t", {"mlp": RISING}, 12, 10, colour=False)) == 1 + 2 * 2


def test_of_equal_scores_the_deepest_is_marked_as_planning_drops_it_first():
    assert most_redundant({0: 0.2, 1: 0.1, 2: 0.1}) == 2


@given(st.lists(st.floats(0, 2), min_size=1, max_size=100), st.integers(1, 9))
def test_levels_follow_the_order_of_the_scores(values, count):
    levels = rank_levels(dict(enumerate(values)), count)
    assert all(0 <= level < count for level in levels.values())
    assert min(levels.values()) == 0
    for first in range(len(values)):
        for second in range(len(values)):
            if values[first] <= values[second]:
                assert levels[first] <= levels[second]
            if values[first] == values[second]:
                assert levels[first] == levels[second]
