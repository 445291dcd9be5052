"""Formats numbers for people: bytes, counts, floating point operations, durations; and reads durations."""

import re

SECONDS = {"m": 60, "h": 3600, "d": 86400}


def human_bytes(count: float) -> str:
    """1536 -> `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_count(count: float) -> str:
    """70553706496 -> `70.6 B`."""
    for unit in ("", " K", " M"):
        if round(count) < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.2f} B"


def human_flops(count: float) -> str:
    """2.5e12 -> `2.5 TFLOP`."""
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EFLOP"


def human_hours(hours: float) -> str:
    """0.0021 -> `0.002`, 0.21 -> `0.21`, 4.62 -> `4.6`, 63.2 -> `63`; what is less than a thousandth is `<0.001`."""
    if hours < 0.001:
        return "<0.001" if hours else "0"
    return (
        f"{hours:.0f}"
        if hours >= 9.95
        else f"{hours:.1f}"
        if hours >= 0.995
        else f"{hours:.1g}"
        if hours < 0.01
        else f"{hours:.2g}"
    )


def human_duration(seconds: float) -> str:
    """7265 -> `2 h 1 min`; 240 -> `4 min 0 s`; 12.04 -> `12.0 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def read_duration(text: str) -> int:
    """Seconds of `90m`, `24h` or `7d`; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if match is None:
        raise ValueError(f"{text}: write minutes, hours or days, such as 90m, 24h or 7d")
    return int(match[1]) * SECONDS[match[2]]
