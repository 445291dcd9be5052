"""RunConfig, a run as its user writes it, and what follows from it."""

from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from drop_ray.config.accept import AVERAGE, KL, AcceptSpec
from drop_ray.config.evaluation import EvaluationConfig
from drop_ray.config.execution import ExecutionConfig
from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.model import ModelConfig
from drop_ray.config.plans import REFITTED, UNQUANTIZED, PlanSpec
from drop_ray.config.quantization import AnyQuantization
from drop_ray.config.refit import RefitSpec
from drop_ray.config.scoring import CalibrationConfig, ScoringConfig
from drop_ray.config.section import FileName, Location, Section
from drop_ray.config.serving import ServingConfig
from drop_ray.config.texts import SizedText, TextSection
from drop_ray.config.tracking import TrackingConfig
from drop_ray.models.export_formats import ExportFormat
from drop_ray.text.naming import first_twice

RUNS = "runs"
"""Folder of a store that has a folder for each run."""


class RunConfig(Section):
    """A run: one model, what to drop from it, and how to judge and measure what is left."""

    name: FileName = Field(description="what the run is called; the file's name if not given")
    model: ModelConfig = Field(description="which weights the run is about")
    calibration: CalibrationConfig = Field(description="the text on which importance is measured")
    scoring: ScoringConfig = Field(ScoringConfig(), description="what is measured on the calibration text")
    plans: tuple[PlanSpec, ...] = Field((), description="what to drop: strategies with numbers, or plan files")
    refit: tuple[RefitSpec, ...] = Field(
        (), description="how what is left of every plan is fitted anew, to make up for what is dropped"
    )
    evaluation: EvaluationConfig = Field(
        EvaluationConfig(), description="the tasks and texts that judge the base and every plan"
    )
    accept: AcceptSpec = Field(AcceptSpec(), description="what a plan may lose for the report to name it")
    quantization: tuple[AnyQuantization, ...] = Field(
        (), description="methods by which the base and every plan are quantized, after dropping"
    )
    serving: ServingConfig | None = Field(None, description="how to measure serving speed; null measures none")
    export: Literal["all", "none"] | tuple[str, ...] = Field(
        "none", description="which plans become checkpoints in the store: all, none, or their names"
    )
    export_formats: tuple[ExportFormat, ...] = Field(
        ("dropped", "plain"),
        min_length=1,
        description="formats of every exported plan; plain only for plans that drop whole blocks",
    )
    store: Location = Field("drop-ray-store", description="folder or s3://bucket/prefix that keeps everything done")
    tracking: TrackingConfig | None = Field(
        None, description="where else the finished run is logged; null logs nowhere"
    )
    execution: ExecutionConfig = Field(ExecutionConfig(), description="how to run; never changes a number")

    @field_validator("export_formats")
    @classmethod
    def _each_format_once(cls, value: tuple[ExportFormat, ...]) -> tuple[ExportFormat, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each format once")
        return value

    @field_validator("quantization", "refit")
    @classmethod
    def _labels_differ(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = first_twice(spec.label for spec in value)
        if twice is not None:
            raise ValueError(f"two lines are called {twice}; give one a `name`")
        return value

    @model_validator(mode="after")
    def _metrics_are_scored(self) -> "RunConfig":
        for position, spec in enumerate(self.plans):
            if spec.metric is not None and spec.metric not in self.scoring.metrics:
                raise ValueError(
                    f"plans[{position}].metric: {spec.metric} is not scored; add it to scoring.metrics "
                    f"([{', '.join(self.scoring.metrics)}])"
                )
        return self

    @model_validator(mode="after")
    def _refits_are_there(self) -> "RunConfig":
        labels = [spec.label for spec in self.refit]
        for position, spec in enumerate(self.plans):
            if spec.on is None or spec.on in labels or (spec.on == REFITTED and labels):
                continue
            if not labels:
                raise ValueError(
                    f"plans[{position}].on: {spec.on} takes a line of `refit`, and there is none; add one, such as "
                    "refit: [{ridge: auto}]"
                )
            raise ValueError(
                f"plans[{position}].on: no line of `refit` is called {spec.on}; lines: {', '.join(labels)}"
            )
        return self

    @model_validator(mode="after")
    def _quantizations_are_there(self) -> "RunConfig":
        labels = [spec.label for spec in self.quantization]
        for position, spec in enumerate(self.plans):
            unknown = [name for name in spec.quantized if name not in (UNQUANTIZED, *labels)]
            if unknown:
                raise ValueError(
                    f"plans[{position}].quantized: no line of `quantization` is called {unknown[0]}; there are: "
                    f"{', '.join([UNQUANTIZED, *labels])}"
                )
        return self

    @model_validator(mode="after")
    def _changes_have_samples(self) -> "RunConfig":
        for field in ("refit", "quantization"):
            for position, spec in enumerate(getattr(self, field)):
                try:
                    spec.split(spec.text.num_samples if spec.text else self.calibration.num_samples)
                except ValueError as error:
                    raise ValueError(f"{field}[{position}].num_samples: {error}") from error
        return self

    @model_validator(mode="after")
    def _acceptance_is_measured(self) -> "RunConfig":
        metric, tasks = self.accept.metric, [task.name for task in self.evaluation.tasks]
        if metric == KL and self.evaluation.divergence is None:
            raise ValueError("accept.metric: kl needs the divergence; state `evaluation.divergence`")
        if metric not in (AVERAGE, KL, *tasks):
            known = ", ".join((AVERAGE, KL, *tasks))
            raise ValueError(
                f"accept.metric: {metric} is not evaluated; add it to evaluation.tasks, or take one of {known}"
            )
        return self

    @model_validator(mode="after")
    def _options_have_a_use(self) -> "RunConfig":
        if self.execution.store_options and not any(map(_is_on_s3, (self.store, self.model.path))):
            raise ValueError("execution.store_options are for s3:// only, and neither store nor model.path is there")
        return self

    def s3_options(self, location: str) -> dict[str, Any]:
        """Arguments of `S3Connection` for a location on S3, and none for any other location."""
        if not _is_on_s3(location):
            return {}
        return {"outage_s": self.execution.store_outage_s, **self.execution.store_options}

    @property
    def folder(self) -> str:
        """The run's folder in its store."""
        return f"{RUNS}/{self.name}"

    @property
    def serving_dtype(self) -> str:
        """The dtype that models are served in."""
        return (self.serving and self.serving.dtype) or self.model.dtype

    @property
    def hardware(self) -> HardwareSpec | None:
        """The GPUs that hours are forecast for; None on CPUs, and where none are stated."""
        return self.execution.hardware if self.execution.device == "cuda" else None

    def to_yaml(self) -> str:
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


CALIBRATION = "calibration"
"""The field of the calibration text."""
DIVERGENCE = "evaluation.divergence"
"""The field of the text on which predictions are compared."""


def texts_of(config: RunConfig) -> dict[str, SizedText]:
    """Every text that the config names, by its field. Sections without a text of their own are not among them."""
    calibration, divergence = config.calibration, config.evaluation.divergence
    texts = {CALIBRATION: SizedText(calibration, calibration.num_samples, calibration.seq_len)}
    for compared in calibration.compare:
        if compared.origin:
            most = max(compared.num_samples, default=calibration.num_samples)
            texts[compare_field(compared.name)] = SizedText(compared, most, calibration.seq_len)
    if divergence is not None and divergence.origin:
        seq_len = divergence.seq_len or calibration.seq_len
        texts[DIVERGENCE] = SizedText(divergence, divergence.num_samples, seq_len)
    sections: dict[str, TextSection] = {perplexity_field(text.name): text for text in config.evaluation.perplexity}
    sections |= {refit_field(spec.label): spec.text for spec in config.refit if spec.text}
    sections |= {quantization_field(spec.label): spec.text for spec in config.quantization if spec.text}
    return texts | {field: SizedText(text, text.num_samples, text.seq_len) for field, text in sections.items()}


def compare_field(name: str) -> str:
    return f"calibration.compare ({name})"


def perplexity_field(name: str) -> str:
    return f"evaluation.perplexity ({name})"


def refit_field(label: str) -> str:
    return f"refit ({label}).text"


def quantization_field(label: str) -> str:
    return f"quantization ({label}).text"


def _is_on_s3(location: str) -> bool:
    return location.startswith("s3://")
