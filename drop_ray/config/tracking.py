"""`tracking`: where else the results of a finished run are logged. It is part of no identity and changes no number."""

from typing import Literal

from pydantic import Field, model_validator

from drop_ray.config.section import Location, Section


class MlflowSpec(Section):
    """An MLflow tracking server or store; needs the extra `mlflow`."""

    uri: Location = Field(description="address of a tracking server, sqlite:///FILE (needs all of mlflow), or a folder")
    experiment: str = Field("drop_ray", min_length=1, description="the experiment, made if it is not there")


class WandbSpec(Section):
    """A project of Weights & Biases; needs the extra `wandb`, and online WANDB_API_KEY or `wandb login`."""

    project: str = Field("drop_ray", min_length=1, description="the project, made if it is not there")
    entity: str | None = Field(None, description="team or user; the account's own if not given")
    mode: Literal["online", "offline"] = Field("online", description="offline writes into `folder`, for `wandb sync`")
    folder: Location = Field(".", description="folder in which `wandb/` is made")


class TrackingConfig(Section):
    """Where a finished run's parameters, metrics and report are logged. A failure there does not fail the run."""

    mlflow: MlflowSpec | None = Field(None, description="log to MLflow; null does not")
    wandb: WandbSpec | None = Field(None, description="log to Weights & Biases; null does not")

    @model_validator(mode="after")
    def _somewhere(self) -> "TrackingConfig":
        if self.mlflow is None and self.wandb is None:
            raise ValueError("name `mlflow` or `wandb`, or leave `tracking` out")
        return self
