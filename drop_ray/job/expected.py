"""How long work takes on stated hardware: operations, bytes and rates, and no measurement.

Work is a list of phases, one after the other. What happens within a phase happens at the same time, so that it takes
as long as the longest of it (Williams et al., "Roofline", CACM 2009). A rate is the data sheet's, times the part of it
that `execution.hardware` says is reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.config.hardware import HardwareSpec
from drop_ray.job.layout import Layout

HOUR_S = 3600.0


@dataclass(frozen=True)
class Phase:
    """Work that overlaps, of all units together."""

    flops: float = 0
    """Floating point operations."""
    moved: float = 0
    """Bytes between GPUs and their own memory: weights and KV cache, for every generated token."""
    loaded: float = 0
    """Bytes of weights that workers bring onto their GPUs."""
    starts: float = 0
    """Engines that are started."""


@dataclass(frozen=True)
class Expected:
    """What work is expected to take."""

    gpu_s: float = 0
    """Seconds of all GPUs that are held, added up."""
    wall_s: float = 0
    """Seconds from the beginning to the end."""
    gpus: float = 0
    """GPUs that are held at the same time."""

    @property
    def gpu_hours(self) -> float:
        return self.gpu_s / HOUR_S

    @property
    def wall_hours(self) -> float:
        return self.wall_s / HOUR_S

    def __add__(self, other: "Expected") -> "Expected":
        """Both, one after the other."""
        return Expected(self.gpu_s + other.gpu_s, self.wall_s + other.wall_s, max(self.gpus, other.gpus))


def total(parts: Sequence[Expected | None]) -> Expected | None:
    """Of parts one after the other, as far as they are known; None if nothing of them is."""
    known = [part for part in parts if part is not None]
    return sum(known, Expected()) if known else None


def expect(phases: Sequence[Phase], hardware: HardwareSpec, layout: Layout, at_once: int) -> Expected:
    """What the phases take with workers as in `layout`, of which at most `at_once` find work.

    All GPUs of a worker wait while its weights come and while its engine starts, but compute side by side.
    """
    workers = min(layout.num_workers, at_once)
    if not layout.gpus or not workers:
        return Expected()
    gpu_s = sum(_gpu_seconds(phase, hardware, layout.gpus) for phase in phases)
    gpus = workers * layout.gpus
    return Expected(gpu_s, gpu_s / gpus, gpus)


def _gpu_seconds(phase: Phase, hardware: HardwareSpec, gpus: float) -> float:
    together = max(hardware.seconds(phase.flops, phase.moved), phase.loaded / hardware.load_bandwidth * gpus)
    return together + phase.starts * hardware.start_s * gpus
