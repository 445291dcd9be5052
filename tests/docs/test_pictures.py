"""The pictures of the pages: made by the script, small, shown with words beside them, and of no machine."""

import re
from pathlib import Path

import pytest
from page_commands import PAGES
from pictures import FILES, PICTURES
from terminal import last_screen, picture

MAX_BYTES = 150_000
MAX_FILES = 6


def images(page):
    return re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", page.read_text())


def test_the_pictures_are_those_of_the_script():
    assert {path.name for path in PICTURES.iterdir()} == FILES
    assert len(FILES) <= MAX_FILES


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_picture_is_small_and_is_shown(name):
    path = PICTURES / name
    assert path.stat().st_size < MAX_BYTES
    shown_in = [page for page in PAGES for _, target in images(page) if (page.parent / target).resolve() == path]
    assert shown_in, "no page shows it"


def test_every_picture_of_a_page_says_what_is_in_it():
    found = [(page, words, target) for page in PAGES for words, target in images(page)]
    assert len(found) >= len(FILES)
    assert [target for _, words, target in found if len(words.split()) < 5] == []
    assert [target for page, _, target in found if (page.parent / target).resolve().parent != PICTURES] == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".svg")))
def test_a_terminal_names_no_place_of_a_machine_and_asks_the_network_for_nothing(name):
    text = (PICTURES / name).read_text().replace("&#160;", " ").replace("\xa0", " ")
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|Users|var)\b", text) == []
    assert re.findall(r"(?:https?:)?//(?!www\.w3\.org)\S+", re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", text)) == []


def test_what_a_terminal_shows_in_the_end():
    """As rich writes it: a line of progress is erased and drawn again, also from the line below."""
    written = "a\r\n\x1b[?25lwork 1\r\x1b[2K\x1b[1mwork\x1b[0m 2\r\n\r\x1b[1A\x1b[2Kwork 3\r\n\x1b[?25hend"
    assert last_screen(written) == ["a", "work 3", "end"]


def test_a_terminal_is_drawn_as_wide_as_it_was():
    drawn = picture(["\x1b[32mgreen\x1b[0m", "x" * 50], 20, "a title")
    assert "green" in drawn
    assert "x" * 19 in drawn
    assert "x" * 20 not in drawn
    assert Path(PICTURES).name not in drawn
