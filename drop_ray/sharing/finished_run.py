"""A finished run, found by its config or by its folder in a store, and its tables read back into rows."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drop_ray.config import RUNS, RunConfig
from drop_ray.errors import UserError

if TYPE_CHECKING:
    from drop_ray.report.results import Results, RunFacts
    from drop_ray.store import Store


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder in its store."""

    store: "Store"
    """Where it lies."""
    config: RunConfig
    """As it was resolved."""

    @property
    def has_report(self) -> bool:
        return self.store.exists(f"{self.config.folder}/tables/variants.parquet")

    @cached_property
    def results(self) -> "Results":
        """UserError if the run has no report."""
        return read_tables(self.store, self.config)

    @property
    def lm_eval(self) -> dict[str, dict[str, Any]]:
        """The last results file of lm-eval of each variant, by variant."""
        found = {}
        for variant in self.store.list(f"{self.config.folder}/lm-eval"):
            folder = f"{self.config.folder}/lm-eval/{variant}"
            files = [name for name in self.store.list(folder) if name.startswith("results_")]
            if files:
                found[variant] = json.loads(self.store.read_file(f"{folder}/{files[-1]}"))
        return found

    def card_with_results(self, card: str, variant: str) -> str:
        """A checkpoint's model card with what the run measured of the variant. UserError if it has no such variant."""
        from drop_ray.models.model_card import with_results
        from drop_ray.report.card_results import evaluations_for_the_hub, results_text, task_data_of

        names = [row.name for row in self.results.variants]
        if variant not in names:
            raise UserError(f"the run {self.config.name} has no variant {variant}; it has: {', '.join(names)}")
        data = task_data_of(self.lm_eval.get(variant, {}))
        evaluations = evaluations_for_the_hub(self.results, variant, data)
        return with_results(card, evaluations, results_text(self.results, variant))


def run_of(config: RunConfig) -> FinishedRun:
    """The run of a config, in the store that it names."""
    from drop_ray.job.run_store import store_of

    return FinishedRun(store_of(config), config)


def open_run(text: str, overrides: list[str] | None = None) -> FinishedRun:
    """A run by its YAML file, or by its folder (`STORE/runs/NAME`, also s3://) as `drop-ray run` prints it.

    UserError if it is neither.
    """
    from drop_ray.config import load_config
    from drop_ray.store import open_store

    if Path(text).is_file() and Path(text).suffix in (".yaml", ".yml"):
        return run_of(load_config(Path(text), overrides or []))
    place = text.rstrip("/").removesuffix("/report.html")
    above, _, name = place.rpartition("/")
    if not above.endswith(f"/{RUNS}") and above != RUNS:
        raise UserError(
            f"{text} is no YAML file and no run's folder; give the file of a run, or its folder in a store, as "
            "drop-ray-store/runs/NAME or s3://bucket/prefix/runs/NAME"
        )
    store = open_store(above.removesuffix(RUNS).rstrip("/") or ".", {})
    return FinishedRun(store, _config_in(store, f"{RUNS}/{name}"))


def _config_in(store: "Store", folder: str) -> RunConfig:
    """The config that the run wrote into its folder."""
    from drop_ray.config.loading import config_values, parse_config
    from drop_ray.job.run_files import read_run_file

    path = f"{folder}/config.yaml"
    try:
        text = read_run_file(store, path).decode(errors="replace")
    except FileNotFoundError as error:
        raise UserError(f"{store.location(folder)} has no config.yaml: it is no run's folder") from error
    values = config_values(text, store.location(path))
    if isinstance(execution := values.get("execution"), dict):
        execution.pop("store_options", None)  # secrets are masked in it, and where the store is, is known
    return parse_config(values, store.location(path))


def read_results(config: RunConfig) -> Any:
    """`Results` of a run that was evaluated. UserError if the run has no report or evaluation.

    The number of layers is that of the scores; 0 if the run has none.
    """
    results = run_of(config).results
    if not results.evaluations:
        raise UserError(f"the run {config.name} is not evaluated: its report has no evaluations to compare")
    return results


def read_tables(store: "Store", config: RunConfig) -> "Results":
    """What the tables of a run's report say of its variants. UserError if the run has no report."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from drop_ray.report.reading_tables import rows_of_table
    from drop_ray.report.results import Results, RunFacts
    from drop_ray.report.tables import TOPICS

    def rows(topic: str) -> list[Any]:
        path = f"{config.folder}/tables/{topic}.parquet"
        if not store.exists(path):
            return []
        table = pq.read_table(pa.BufferReader(store.read_file(path)))
        try:
            return rows_of_table(TOPICS[topic][0], table)
        except TypeError as error:
            raise UserError(f"{store.location(path)} is of another version: run `report` again ({error})") from error

    variants = rows("variants")
    if not variants:
        raise UserError(
            f"the run {config.name} is not finished: it has no report in {store.location(config.folder)}; "
            "`drop-ray run` it"
        )
    scores = rows("scores")
    facts = _facts_in(store, config) or RunFacts(
        name=config.name,
        model=config.model.name,
        model_identity="",
        num_layers=max((row.layer for row in scores), default=-1) + 1,
        dtype=config.model.dtype,
        calibration="",
        started="",
        versions={},
        config_yaml=config.to_yaml(),
    )
    read = ("evaluations", "documents", "divergences", "divergence_samples", "serving", "verdicts", "engines")
    tables: dict[str, Any] = {topic: rows(topic) for topic in (*read, "artifacts")}
    return Results(run=facts, scores=scores, variants=variants, accept=config.accept, **tables)


def _facts_in(store: "Store", config: RunConfig) -> "RunFacts | None":
    """What was run, as its report has it; None of a run whose report an earlier version wrote."""
    from drop_ray.report.results import RUN_FACTS, RunFacts

    path = f"{config.folder}/{RUN_FACTS}"
    try:
        return RunFacts(**json.loads(store.read_file(path)))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise UserError(f"{store.location(path)} is of another version: run `report` again ({error})") from error
