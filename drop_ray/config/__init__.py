"""RunConfig, a run as its user writes it, and its sections. Every section but ExecutionConfig changes numbers."""

from drop_ray.config.calibration_source import CalibrationSource
from drop_ray.config.divergence import DivergenceSpec
from drop_ray.config.evaluation import EvaluationConfig, PerplexitySpec, TaskSpec
from drop_ray.config.execution import ExecutionConfig, Placement
from drop_ray.config.loading import load_config, parse_config
from drop_ray.config.model import ModelConfig
from drop_ray.config.plans import PlanSpec
from drop_ray.config.quantization import QuantizationSpec
from drop_ray.config.refit import RefitSpec
from drop_ray.config.run import RunConfig, perplexity_field, quantization_field, refit_field, text_sections
from drop_ray.config.scoring import CalibrationConfig, ScoringConfig
from drop_ray.config.section import TextSection, resolve_path
from drop_ray.config.serving import MIN_MODEL_LEN, ServingConfig, WorkloadSpec

__all__ = [
    "MIN_MODEL_LEN",
    "CalibrationConfig",
    "CalibrationSource",
    "DivergenceSpec",
    "EvaluationConfig",
    "ExecutionConfig",
    "ModelConfig",
    "PerplexitySpec",
    "Placement",
    "PlanSpec",
    "QuantizationSpec",
    "RefitSpec",
    "RunConfig",
    "ScoringConfig",
    "ServingConfig",
    "TaskSpec",
    "TextSection",
    "WorkloadSpec",
    "load_config",
    "parse_config",
    "perplexity_field",
    "quantization_field",
    "refit_field",
    "resolve_path",
    "text_sections",
]
