"""How the report spells numbers and layers, the same in HTML and Markdown."""

import math
from collections.abc import Iterable

from drop_ray.text.layer_ranges import layer_ranges

PLUS_MINUS = "\u00b1"
MINUS = "\u2212"
NOT_AVAILABLE = "\u2013"  # an en dash: nothing was measured
LEVELS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # one eighth block to full block
NO_SCORE = "\u00d7"  # in a strip of levels


def number(value: float, decimals: int | None = None) -> str:
    """Four decimals below 10, two below 1000, then three significant digits; `inf` and `nan` stay words."""
    if not math.isfinite(value):
        return str(value).replace("-", MINUS)
    if decimals is not None:
        text = f"{value:.{decimals}f}"
    elif abs(value) < 10:
        text = f"{value:.4f}"
    elif abs(value) < 1000:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", MINUS) if abs(value) < 1000 else text


def estimate(value: float, stderr: float | None) -> str:
    """`0.6123 +- 0.0052`; the error is left out where it is unknown."""
    return number(value) if stderr is None else f"{number(value)} {PLUS_MINUS} {error(value, stderr)}"


def error(value: float, stderr: float) -> str:
    """A standard error with the decimals of its value."""
    return number(stderr, 4 if abs(value) < 10 else 2 if abs(value) < 1000 else None)


def signed(value: float, stderr: float | None) -> str:
    """Like `estimate`, with a sign also for gains."""
    return ("+" if value > 0 else "") + estimate(value, stderr)


def score(value: float) -> str:
    """Three significant digits: scores span several powers of ten."""
    return f"{value:.3g}"


def ratio(value: float) -> str:
    """Three decimals: spreads of a few thousandths are what intervals are about."""
    return f"{value:.3f}"


def interval(low: float, high: float) -> str:
    """`[1.012, 1.034]`, of a ratio."""
    return f"[{ratio(low)}, {ratio(high)}]"


def percent(part: int, whole: int) -> str:
    """`12.3 %`; nothing of nothing is 0.0 %."""
    return f"{100 * part / whole if whole else 0.0:.1f} %"


def share(part: int, rest: int) -> str:
    """`12.3 %`, of both together."""
    return percent(part, part + rest)


def binary_bytes(count: int) -> str:
    """`48.0 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count(amount: int, noun: str) -> str:
    """`1 plan`, `2,400 documents`."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def dropped_layers(drop_attn: Iterable[int], drop_mlp: Iterable[int]) -> str:
    """`block 20-23; attn 5-7,9; mlp 4`: a layer that loses both modules is a block."""
    attention, mlp = set(drop_attn), set(drop_mlp)
    parts = {"block": attention & mlp, "attn": attention - mlp, "mlp": mlp - attention}
    return "; ".join(f"{name} {layer_ranges(layers)}" for name, layers in parts.items() if layers) or "nothing"
