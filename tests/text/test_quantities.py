"""Quantities: what is read, what is refused, and what is shown."""

import pytest

from drop_ray.text.quantities import BYTES, COUNT, TIMES, Quantity, read_quantity, rounded_down, rounded_up


@pytest.mark.parametrize(
    ("text", "units", "value", "name"),
    [
        ("24 GB", BYTES, 24e9, "24GB"),
        ("24GB", BYTES, 24e9, "24GB"),
        ("22.5 GiB", BYTES, 22.5 * 2**30, "22.5GiB"),
        ("64 KiB", BYTES, 65536, "64KiB"),
        ("7 B", BYTES, 7, "7B"),
        ("12", [COUNT, TIMES], 12, "12"),
        ("0.5x", [COUNT, TIMES], 500, "0.5x"),
    ],
)
def test_a_number_with_its_unit_is_read(text, units, value, name):
    quantity = read_quantity(text, units)
    assert quantity.value(1000) == value
    assert quantity.part == name


@pytest.mark.parametrize(
    ("text", "units"),
    [
        *(
            (text, BYTES)
            for text in ("24", "24 gb", "24 Gb", "-1 GB", "1e3 GB", "1,5 GB", "24  GB", " 24 GB", "GB", "")
        ),
        *((text, BYTES) for text in (".5 GB", "5. GB", "24 GB\n", "٢٤ GB", "nan GB", "0.5x")),
        *((text, [COUNT]) for text in ("12.0", "1 2", "12x")),
    ],
)
def test_anything_else_is_refused(text, units):
    with pytest.raises(ValueError, match="is not a number with its unit"):
        read_quantity(text, units)


def test_the_nearest_quantity_is_in_the_same_unit_and_never_tighter():
    assert Quantity("2", "GB").at_least(3_087_123_456) == "3.088 GB"
    assert Quantity("0.1", "x").at_least(300, base=1000) == "0.3x"
    assert Quantity("4", "").at_least(7) == "7"
    for number in (3.08712, 0.1 + 0.2, 1234567.0, 0.00012345, 1.0):
        assert number <= float(rounded_up(number)) <= number * 1.001
        assert number * 0.999 <= float(rounded_down(number)) <= number
    assert rounded_up(0.0) == rounded_down(0.0) == "0"
