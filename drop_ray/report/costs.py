"""What a run took, by stage: what its workers measured, what was expected, and what was not computed again."""

from collections.abc import Sequence
from dataclasses import dataclass

HOUR_S = 3600.0


@dataclass(frozen=True)
class CostRow:
    """The units of one stage that workers did, in this run or in another one that shares its store."""

    stage: str
    """Name of the stage."""
    units: int
    """Units that the run has."""
    reused_units: int
    """Those of them that another run had computed."""
    unmeasured_units: int
    """Those of them whose time was not recorded, by an earlier version of the software."""
    worker_seconds: float
    """Seconds of workers for the units that this run computed, added up; without units that were lost."""
    gpu_seconds: float
    """The same, times the GPUs that each worker held; 0 on CPUs."""
    reused_worker_seconds: float
    """Seconds of workers that the units of other runs took then."""
    reused_gpu_seconds: float
    """The same, times the GPUs that each worker held."""
    expected_gpu_seconds: float | None = None
    """What the forecast expects of all units, reused ones too; null where the config states no hardware."""
    asked_tokens: int = 0
    """Tokens of all requests of all units, each with the whole of its context; 0 where nobody counted."""
    computed_tokens: int = 0
    """Those of them that were computed; the others came from equal prefixes."""

    @property
    def saved_tokens(self) -> int:
        """Tokens that were asked for and not computed, since a prefix was there."""
        return self.asked_tokens - self.computed_tokens

    @property
    def measured_gpu_seconds(self) -> float:
        """Of all units, reused ones too: what the forecast is compared with."""
        return self.gpu_seconds + self.reused_gpu_seconds


def total_costs(rows: Sequence[CostRow]) -> CostRow:
    """All stages together. What is expected counts only if it is of some stage."""
    expected = [row.expected_gpu_seconds for row in rows if row.expected_gpu_seconds is not None]
    return CostRow(
        stage="in all",
        units=sum(row.units for row in rows),
        reused_units=sum(row.reused_units for row in rows),
        unmeasured_units=sum(row.unmeasured_units for row in rows),
        worker_seconds=sum(row.worker_seconds for row in rows),
        gpu_seconds=sum(row.gpu_seconds for row in rows),
        reused_worker_seconds=sum(row.reused_worker_seconds for row in rows),
        reused_gpu_seconds=sum(row.reused_gpu_seconds for row in rows),
        expected_gpu_seconds=sum(expected) if expected else None,
        asked_tokens=sum(row.asked_tokens for row in rows),
        computed_tokens=sum(row.computed_tokens for row in rows),
    )
