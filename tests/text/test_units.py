"""Numbers as people read and write them, at the borders between units."""

import pytest

from drop_ray.text.units import human_bytes, human_count, human_duration, human_flops, read_duration


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (2 << 50, "2048.0 TiB"),
    ],
)
def test_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (1000, "1 K"), (999_700_000, "1.00 B"), (7.24e9, "7.24 B")])
def test_counts(count, text):
    assert human_count(count) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999 FLOP"), (2.5e12, "2.5 TFLOP"), (3e18, "3 EFLOP")])
def test_floating_point_operations(count, text):
    assert human_flops(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (12.04, "12.0 s"), (59.4, "59.4 s"), (59.6, "1 min 0 s"), (240, "4 min 0 s"), (3599.7, "1 h 0 min")],
)
def test_durations(seconds, text):
    assert human_duration(seconds) == text


def test_a_duration_is_read_in_minutes_hours_or_days():
    assert [read_duration(text) for text in ("90m", "24h", "7d", "0m")] == [5400, 86400, 604800, 0]
    for text in ("", "24", "1.5h", "-1h", "1h30m", " 1h"):
        with pytest.raises(ValueError, match="write minutes, hours or days"):
            read_duration(text)
