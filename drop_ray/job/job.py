"""A checked run: the config, the model's files and sizes, the tasks and plans. `job.opening` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from drop_ray.config import CALIBRATION, RunConfig, resolve_path, texts_of
from drop_ray.evaluation import TaskRequest
from drop_ray.job.change_sections import change_sections
from drop_ray.job.found_text import FoundText, find_text
from drop_ray.job.task_volumes import TaskVolumes
from drop_ray.models.accounting import ModelSize
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import read_config
from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Change
from drop_ray.planning.plans import BASE, DropPlan
from drop_ray.planning.requests import PlanRequest
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.serving.evaluation_preflight import engine_length
from drop_ray.serving.preflight import kv_cache_bytes
from drop_ray.store import Store


@dataclass(frozen=True)
class Job:
    """A run that can start, made by `open_job`."""

    config: RunConfig
    """The run's config."""
    store: Store
    """The store that its artifacts are in."""
    checkpoint: Checkpoint
    """The run's model."""
    earlier: Mapping[str, Checkpoint]
    """The training checkpoints before the run's model, by revision, oldest first."""
    size: ModelSize
    """Sizes of the base model."""
    base_drops: DropLists
    """Sub-layers that the run's model lacks already."""
    requests: tuple[PlanRequest, ...]
    """Plans to be made from scores."""
    given_plans: tuple[DropPlan, ...]
    """Plans that were read from files."""
    task_requests: tuple[TaskRequest, ...]
    """lm-eval tasks to run."""
    tasks: Mapping[str, Mapping[str, Any]]
    """Identity of each lm-eval task, by name."""
    task_files: Mapping[str, str] = field(default_factory=dict)
    """The YAML file of each task that `evaluation.include_path` has, by name."""

    @property
    def include_path(self) -> str | None:
        path = self.config.evaluation.include_path
        return str(resolve_path(path)) if path else None

    @property
    def run_folder(self) -> str:
        return self.config.folder

    @property
    def kv_cache_bytes(self) -> int | None:
        """The KV budget of each serving engine in bytes; None leaves it to vLLM."""
        return kv_cache_bytes(self.config)

    @cached_property
    def evaluated_length(self) -> int:
        """Tokens of a sequence at most, in the evaluation by an engine."""
        length = engine_length(self.config, self.checkpoint)
        assert length is not None, "a job without one is refused"
        return length

    @property
    def base_plan(self) -> DropPlan:
        return self.complete(DropPlan(BASE, self.base_drops.attn, self.base_drops.mlp, BASE))

    @cached_property
    def base_variant(self) -> Variant:
        """The base as a variant. What the model itself lacks is among its changes, as it is among every plan's."""
        return variant_of(self.checkpoint.identity, self.base_plan)

    @cached_property
    def changes(self) -> Mapping[str, tuple[Change, ...]]:
        """The change of each line of the sections that change models, by field of the config."""
        return {section.field: tuple(section.changes(self)) for section in change_sections()}

    @property
    def calibration(self) -> FoundText:
        """The calibration text."""
        return self.text(CALIBRATION)

    def text(self, field: str) -> FoundText:
        """A text that the config names, by its field.

        It is found once, because a branch of the hub may move while the run goes on. UserError if it is not there.
        """
        if field not in self._found:
            self._found[field] = find_text(field, texts_of(self.config)[field])
        return self._found[field]

    @cached_property
    def _found(self) -> dict[str, FoundText]:
        return {}

    @cached_property
    def vocab_size(self) -> int:
        """Rows of the output layer."""
        return int(read_config(self.checkpoint).vocab_size)

    @cached_property
    def volumes(self) -> TaskVolumes:
        """The tokens of the tasks, by name; counted when they are asked for."""
        return TaskVolumes(self)

    def checkpoint_of(self, revision: str | None) -> Checkpoint:
        """The training checkpoint of an earlier revision, or the run's model for None."""
        return self.checkpoint if revision is None else self.earlier[revision]

    def state_name(self, drops: DropLists, revision: str | None = None) -> str:
        """Name of the model that is scored, for people: `base`, `without 3 sub-layers`, `revision step1000`."""
        if drops != self.base_drops:
            return f"without {drops.count} sub-layers"
        return f"revision {revision or self.config.model.main_revision}" if self.earlier else "base"

    def complete(self, plan: DropPlan, calibration_identity: str | None = None) -> DropPlan:
        """The plan with the model that it is for, and with the sizes that are expected to be left."""
        return DropPlan(
            **{
                **plan.__dict__,
                "model_identity": self.checkpoint.identity,
                "calibration_identity": calibration_identity or plan.calibration_identity,
                "parameters": self.size.kept_parameters(plan.drops),
                "kv_bytes_per_token": self.size.kv_bytes_per_token(plan.drops),
            }
        )
