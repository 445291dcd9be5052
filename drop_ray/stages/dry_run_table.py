"""The output of `drop-ray run --dry-run`: one row per step, with its units, bytes and floating point operations."""

from collections.abc import Iterator, Sequence

from rich.console import Console

from drop_ray.job.stage import Work
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, numbers, table_lines, words
from drop_ray.text.units import human_bytes, human_flops


def dry_run_lines(works: Sequence[Work], flops: int, console: Console = PLAIN) -> Iterator[str]:
    """The rows of a dry run. flops: those of a forward pass of the base over 1000 tokens."""
    columns = (names("step"), numbers("units"), numbers("to do"), numbers("bytes"), numbers("compute"), words())
    rows = [
        (
            work.name,
            str(work.units),
            str(work.todo),
            human_bytes(work.cost.num_bytes) if work.cost.num_bytes else "-",
            human_flops(work.cost.flops) if work.cost.flops else "-",
            work.cost.note,
        )
        for work in works
    ]
    yield from table_lines(console, columns, rows)
    yield f"A forward pass of the base takes {human_flops(flops)} per 1000 tokens."
    if not any(work.todo for work in works):
        yield "Nothing to do."
