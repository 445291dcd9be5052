"""What a report is made from: the tables of one run as plain rows, without Ray, torch or files.

`stages/report.py` fills `Results` from a run's artifacts; sections and tables/*.parquet are made of it. Any table may
be empty: a run without an evaluation still reports its scores and variants.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from drop_ray.config.accept import AcceptSpec
from drop_ray.config.serving import AT_LOAD
from drop_ray.report.budget_rows import BudgetRow
from drop_ray.report.costs import CostRow
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.report.draft_rows import DraftPlanRow, DraftRow, SamplingRow
from drop_ray.report.gate_rows import CliffRow, GateRow, VerdictRow
from drop_ray.report.judgement import CalibrationRow, ScreenRow, TargetRow
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.report.rows import (
    ArtifactRow,
    DocumentRow,
    EngineRow,
    EvaluationRow,
    QuantizationErrorRow,
    ScoreRow,
    ServingRow,
    TrainingRow,
    VariantRow,
)
from drop_ray.report.sensitivity_rows import AgreementRow, SensitivityRow
from drop_ray.report.texts import TextRow

Row = TypeVar("Row")
Key = TypeVar("Key")
OF_VARIANTS = {
    "evaluations": "evaluations",
    "documents": "evaluations",
    "divergences": "divergence panels",
    "divergence_samples": "divergence panels",
    "quantization_errors": "quantization errors",
    "serving": "serving measurements",
    "engines": "serving measurements",
    "drafts": "drafts",
    "draft_plans": "drafts",
    "refits": "refits",
    "refit_errors": "refits",
    "verdicts": "verdicts",
    "gates": "verdicts",
    "calibrations": "evaluations",
    "targets": "evaluations",
    "screening": "screening",
    "budgets": "budgets",
}
"""The tables whose rows name a variant, and what messages call their rows.

Those of the serving benchmark may name what vLLM makes of one while it loads it, too.
"""


RUN_FACTS = "run.json"
"""File in a run's folder that has `RunFacts`."""


@dataclass(frozen=True)
class RunFacts:
    """What was run, for the record."""

    name: str
    """The run's name."""
    model: str
    """Path or name of the model."""
    model_identity: str
    """Hash of all that the model consists of."""
    num_layers: int
    """Decoder layers of the base."""
    dtype: str
    """Of weights that are not quantized."""
    calibration: str
    """Text, number and length of the samples."""
    started: str
    """When the first artifact was committed."""
    versions: Mapping[str, str]
    """Versions by library."""
    config_yaml: str
    """The resolved configuration."""
    mixers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Layers by the kind of their token mixer."""
    stays: Sequence[str] = ()
    """What of the base cannot be dropped and why, a text for each reason."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What else decides a number and does not stand in the configuration, by a name for people."""
    warnings: Sequence[str] = ()
    """What the log warned of, in all starts of the run, each once."""


@dataclass(frozen=True, eq=False)
class Results:
    """Everything a report shows, compared by identity. ValueError where rows contradict each other."""

    run: RunFacts
    """What was run."""
    scores: Sequence[ScoreRow]
    """Importance in the run's model, of the base and of every drop state of an iteration."""
    variants: Sequence[VariantRow]
    """What was compared; the base first."""
    evaluations: Sequence[EvaluationRow]
    """Metrics of variants."""
    documents: Sequence[DocumentRow]
    """Single documents of the evaluations."""
    artifacts: Sequence[ArtifactRow]
    """Where everything is."""
    training: Sequence[TrainingRow] = ()
    """Importance in every training checkpoint, oldest first, all with the same layers; the last is the run's model."""
    serving: Sequence[ServingRow] = ()
    """Measurements of speed."""
    engines: Sequence[EngineRow] = ()
    """Memory and acceptance gate of the engines."""
    drafts: Sequence[DraftRow] = ()
    """Variants as drafts of the base, as measured; the control first."""
    sampling: Sequence[SamplingRow] = ()
    """Whether drafts may be used while tokens are drawn, by temperature."""
    draft_plans: Sequence[DraftPlanRow] = ()
    """What variants are predicted to gain as drafts, the best first."""
    quantization_errors: Sequence[QuantizationErrorRow] = ()
    """Output errors of quantized sub-layers."""
    calibrations: Sequence[CalibrationRow] = ()
    """How sure variants are of their answers."""
    targets: Sequence[TargetRow] = ()
    """How tasks with a target ended."""
    screening: Sequence[ScreenRow] = ()
    """Which variants were evaluated, where that was chosen."""
    divergences: Sequence[DivergenceRow] = ()
    """Divergence panels of variants."""
    divergence_samples: Sequence[DivergenceSampleRow] = ()
    """What the panels are made of, by sample."""
    divergence_text: DivergenceText | None = None
    """The text that the panels are of; none where nothing was to be compared."""
    verdicts: Sequence[VerdictRow] = ()
    """What the damage gates say of variants."""
    gates: Sequence[GateRow] = ()
    """What each gate says of them."""
    cliffs: Sequence[CliffRow] = ()
    """How far strategies go until a gate stops them."""
    costs: Sequence[CostRow] = ()
    """What the units took, by stage."""
    texts: Sequence[TextRow] = ()
    """The texts of the run, and what each is mixed from."""
    sensitivity: Sequence[SensitivityRow] = ()
    """What plans would be by other calibration texts."""
    agreements: Sequence[AgreementRow] = ()
    """How far these texts agree."""
    refits: Sequence[RefitRow] = ()
    """What variants were refitted with, and what that brought back."""
    refit_errors: Sequence[RefitErrorRow] = ()
    """What the residual stream lacked after each refitted sub-layer."""
    budgets: Sequence[BudgetRow] = ()
    """What plans with limits were reckoned to have."""
    accept: AcceptSpec = field(default_factory=AcceptSpec)
    """The rule by which variants are acceptable."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        served = [f"{variant.name}-{AT_LOAD}" for variant in self.variants]
        if repeated := _repeated(names):
            raise ValueError(f"variant names are not unique: {repeated}")
        if self.variants and self.variants[0].strategy != "base":
            raise ValueError(f"the first variant must be the base, not {self.variants[0].name!r}")
        for table, rows in OF_VARIANTS.items():
            known = {*names, *(served if table in ("serving", "engines") else ())}
            if unknown := {row.variant for row in getattr(self, table)} - known:
                raise ValueError(f"{rows} of unknown variants: {sorted(unknown)}")
        plain = {variant.name for variant in self.variants if variant.quantization is None}
        quantized = [(how.of, how.label) for variant in self.variants if (how := variant.quantization)]
        if unknown := {of for of, _ in quantized} - plain:
            raise ValueError(f"quantized from unknown variants: {sorted(unknown)}")
        if repeated := _repeated(quantized):
            raise ValueError(f"quantized more than once, by variant and label: {repeated}")
        if repeated := _repeated((row.variant, row.task) for row in self.evaluations if row.primary):
            raise ValueError(f"more than one primary metric, by variant and task: {repeated}")

    def unquantized(self) -> "Results":
        """Without the quantized variants and what was measured of them."""
        variants = [variant for variant in self.variants if variant.quantization is None]
        names = {variant.name for variant in variants}
        kept: dict[str, Any] = {
            table: [row for row in getattr(self, table) if row.variant in names] for table in OF_VARIANTS
        }
        return replace(self, variants=variants, **kept)


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows by key, in order of appearance."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _repeated(keys: Iterable[str] | Iterable[tuple[str, str]]) -> list[str] | list[tuple[str, str]]:
    known = list(keys)
    return sorted({key for key in known if known.count(key) > 1})  # type: ignore[type-var,return-value]
