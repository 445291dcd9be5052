"""Rows of what plans would be by other calibration texts, and of how far these texts agree."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SensitivityRow:
    """What one plan would be if it were chosen by one calibration text, and how far that is from the base."""

    plan: str
    """Name of the plan."""
    text: str
    """The text: `calibration` is the run's own, `consensus` all texts together, by the mean rank over them."""
    num_samples: int | None
    """Samples of the text that were scored; null for all texts together."""
    drop_attn: tuple[int, ...]
    """Layers that would lose their attention, most redundant first."""
    drop_mlp: tuple[int, ...]
    """Layers that would lose their MLP, most redundant first."""
    overlap: float
    """Share of the dropped sub-layers that the plan itself drops, too."""
    kl: float | None = None
    """Mean KL per token from the base on the text of the panels, in nats; null where nothing was compared."""
    kl_stderr: float | None = None
    """Its standard error over samples."""
    difference: float | None = None
    """That KL less the KL of the plan itself."""
    difference_stderr: float | None = None
    """Standard error of the difference, paired by sample."""


@dataclass(frozen=True)
class AgreementRow:
    """How far two calibration texts agree in what one plan is about."""

    plan: str
    """Name of the plan."""
    text: str
    """A text, by its name."""
    num_samples: int
    """Samples of it that were scored."""
    other_text: str
    """Another text, or another number of samples."""
    other_num_samples: int
    """Samples of the other that were scored."""
    tau: float | None
    """Kendall's tau-b of the importance of what the plan chooses from: 1 is the same order, 0 none; null of one."""
    overlap: float
    """Share of the sub-layers that the plan drops by one text which it drops by the other, too."""
