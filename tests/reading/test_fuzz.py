"""A few inputs for every reader; `python tests/reading/fuzz.py` gives thousands."""

import pytest
from fuzz import READERS, Reader, fuzz
from hypothesis import strategies as st

from drop_ray.errors import UserError


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_anything_gives_a_value_or_an_error_for_the_user(tmp_path, reader):
    tally = fuzz(reader, 40, 0, tmp_path)
    assert tally.faults == []
    assert tally.slow == []
    assert tally.errors > 0


def test_a_traceback_is_found_and_an_error_for_the_user_is_none(tmp_path):
    def read(path):
        data = path.read_bytes()
        if data == b"b":
            raise KeyError(data)
        if data == b"c":
            raise UserError("no")

    tally = fuzz(Reader("a", "a.bin", read, st.sampled_from([b"a", b"b", b"c"])), 30, 0, tmp_path)
    assert (tally.values, tally.errors, len(tally.faults)) == (1, 1, 1)
    assert "KeyError" in tally.faults[0]
