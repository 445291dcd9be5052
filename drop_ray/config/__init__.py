"""RunConfig, a run as its user writes it, and its sections. Every section but
`execution` and `tracking` changes numbers."""

from drop_ray.config.accept import AcceptSpec
from drop_ray.config.compared_text import ComparedText
from drop_ray.config.divergence import DivergenceSpec
from drop_ray.config.drafts import DraftsConfig
from drop_ray.config.evaluation import EvaluationConfig, PerplexitySpec, TaskSpec
from drop_ray.config.execution import ExecutionConfig, Placement
from drop_ray.config.loading import load_config, parse_config
from drop_ray.config.model import ModelConfig
from drop_ray.config.plans import PlanSpec
from drop_ray.config.quantization import AnyQuantization, Fp8Spec, QuantizationSpec
from drop_ray.config.refit import RefitSpec
from drop_ray.config.run import (
    CALIBRATION,
    DIVERGENCE,
    RUNS,
    RunConfig,
    compare_field,
    perplexity_field,
    quantization_field,
    refit_field,
    texts_of,
)
from drop_ray.config.scoring import CalibrationConfig, ScoringConfig
from drop_ray.config.section import resolve_path
from drop_ray.config.serving import MIN_MODEL_LEN, ServingConfig, WorkloadSpec
from drop_ray.config.texts import MixSource, SizedText, Text, TextOrigin, TextSection

__all__ = [
    "CALIBRATION",
    "DIVERGENCE",
    "MIN_MODEL_LEN",
    "RUNS",
    "AcceptSpec",
    "AnyQuantization",
    "CalibrationConfig",
    "ComparedText",
    "DivergenceSpec",
    "DraftsConfig",
    "EvaluationConfig",
    "ExecutionConfig",
    "Fp8Spec",
    "MixSource",
    "ModelConfig",
    "PerplexitySpec",
    "Placement",
    "PlanSpec",
    "QuantizationSpec",
    "RefitSpec",
    "RunConfig",
    "ScoringConfig",
    "ServingConfig",
    "SizedText",
    "TaskSpec",
    "Text",
    "TextOrigin",
    "TextSection",
    "WorkloadSpec",
    "compare_field",
    "load_config",
    "parse_config",
    "perplexity_field",
    "quantization_field",
    "refit_field",
    "resolve_path",
    "texts_of",
]
