"""Numbers as people read them."""


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
