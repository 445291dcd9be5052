"""The output of `drop-ray run --dry-run`: a row per step, the tokens of the tasks, and the hours on stated GPUs."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from drop_ray.config import EvaluationConfig, ExecutionConfig
from drop_ray.config.gpus import GPUS
from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.job.expected import Expected
from drop_ray.job.stage import Work
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, numbers, table_lines, words
from drop_ray.text.units import human_bytes, human_count, human_flops, human_hours

BASES = {
    "sample": "sample: of the task's own requests, scaled to all of its documents",
    "published": "published: by known sizes of the data set, to about 20 %; its data is not here",
}
"""What is said of numbers that are no exact counts."""


def dry_run_lines(
    works: Sequence[Work], flops: int, console: Console = PLAIN, stays: Sequence[str] = ()
) -> Iterator[str]:
    """The rows of a dry run.

    flops: those of a forward pass of the base over 1000 tokens; stays: what cannot be dropped of it, and why.
    """
    has_hours = any(work.expected for work in works)
    columns = [names("step"), numbers("units"), numbers("to do"), numbers("bytes"), numbers("compute")]
    columns += [numbers("GPU-h"), numbers("hours")] if has_hours else []
    # With hours there is no room left for remarks: they follow the table.
    columns += [] if has_hours else [words()]
    rows = []
    for work in works:
        row = [work.name, str(work.units), str(work.todo)]
        row.append(human_bytes(work.cost.num_bytes) if work.cost.num_bytes else "-")
        row.append(human_flops(work.cost.flops) if work.cost.flops else "-")
        if has_hours:
            found = work.expected
            row += [human_hours(found.gpu_hours), human_hours(found.wall_hours)] if found else ["-", "-"]
        else:
            row.append(work.cost.note)
        rows.append(row)
    yield from table_lines(console, columns, rows)
    if has_hours:
        yield from (f"{work.name}: {work.cost.note}" for work in works if work.cost.note)
    yield f"A forward pass of the base takes {human_flops(flops)} per 1000 tokens."
    yield from (f"No plan drops what is not there or must stay: {reason}." for reason in stays)
    if not any(work.todo for work in works):
        yield "Nothing to do."


def token_lines(
    volumes: Mapping[str, TaskVolume | None], evaluation: EvaluationConfig, console: Console = PLAIN
) -> Iterator[str]:
    """The tokens of the tasks that were counted, on one variant."""
    known = {name: volume for name, volume in volumes.items() if volume is not None}
    if not known:
        return
    shares = str(evaluation.share_prefixes).lower()
    yield ""
    yield f"Tokens of each task on one variant (backend {evaluation.backend}, share_prefixes {shares}):"
    columns = [names("task"), numbers("documents"), numbers("requests"), numbers("asked"), numbers("computed")]
    columns += [numbers("generated"), names("from")]
    rows = []
    for name, volume in known.items():
        tokens = [volume.asked, volume.computed(evaluation.backend, evaluation.share_prefixes), volume.generated]
        counts = [human_count(count) if count else "-" for count in tokens]
        rows.append([name, str(volume.documents), str(volume.requests), *counts, volume.basis])
    yield from table_lines(console, columns, rows)
    bases = {volume.basis for volume in known.values()}
    yield from (text for basis, text in BASES.items() if basis in bases)


def hardware_lines(works: Sequence[Work], execution: ExecutionConfig) -> Iterator[str]:
    """The sum of what is expected, or how to state the GPUs that it is expected of; nothing on CPUs."""
    if execution.device == "cpu" or not any(work.todo for work in works):
        return
    hardware = execution.hardware
    yield ""
    if hardware is None:
        yield f"execution.hardware is not stated, so no hours are forecast; name the GPUs: {', '.join(GPUS)}"
        return
    total = sum((work.expected for work in works if work.expected), Expected())
    peak = hardware.peak
    yield (
        f"Expected on {total.gpus:g} GPUs ({hardware.gpu or 'as stated'}: {human_flops(peak.flops)}/s x "
        f"{hardware.compute_efficiency:g}, {peak.bandwidth / 1e12:.3g} TB/s x {hardware.bandwidth_efficiency:g}):"
    )
    price = hardware.price_per_gpu_hour
    for stage in dict.fromkeys(work.stage for work in works if work.expected):
        found = sum((work.expected for work in works if work.expected and work.stage == stage), Expected())
        yield f"  {stage}: {_hours(found)} on {found.gpus:g} GPUs{_cost(found, total.gpus, price)}"
    yield f"  in all: {_hours(total)}{_cost(total, total.gpus, price)}"
    if price is not None:
        yield f"  costs are of {total.gpus:g} GPUs all along, at {price:g} per GPU-hour"
    if execution.num_workers == "auto":
        yield "  execution.num_workers is auto: the hours are those of one worker, and a cluster with more takes fewer"
    unknown = [work.name for work in works if work.stage and work.todo and work.expected is None and work.cost.note]
    if unknown:
        yield f"  and what is not known: {', '.join(unknown)}"


def _hours(found: Expected) -> str:
    return f"{human_hours(found.gpu_hours)} GPU-hours, {human_hours(found.wall_hours)} hours"


def _cost(found: Expected, gpus: float, price: float | None) -> str:
    """Of all GPUs of the run for that time, since those that a stage leaves idle are paid for too."""
    if price is None:
        return ""
    cost = gpus * found.wall_hours * price
    return f", costs {cost:.0f}" if cost >= 10 else f", costs {cost:.2g}"
