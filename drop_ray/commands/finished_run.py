"""The tables of a finished run, read back into rows."""

from typing import Any

from drop_ray.config import RunConfig
from drop_ray.errors import UserError


def read_results(config: RunConfig) -> Any:
    """`Results` with variants, evaluations, documents and serving. UserError if the run has no report or evaluation.

    The number of layers is that of the scores; 0 if the run has none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from drop_ray.report.reading_tables import rows_of_table
    from drop_ray.report.results import Results, RunFacts
    from drop_ray.report.tables import TOPICS
    from drop_ray.store import open_store

    store = open_store(config.store, config.s3_options(config.store))
    folder = f"runs/{config.name}/tables"

    def rows(topic: str) -> list[Any]:
        path = f"{folder}/{topic}.parquet"
        if not store.exists(path):
            return []
        table = pq.read_table(pa.BufferReader(store.read_file(path)))
        try:
            return rows_of_table(TOPICS[topic][0], table)
        except TypeError as error:
            raise UserError(f"{store.location(path)} is of another version: run `report` again ({error})") from error

    variants = rows("variants")
    if not variants:
        raise UserError(f"the run {config.name} is not finished: it has no report in {config.store}; `drop-ray run` it")
    evaluations = rows("evaluations")
    if not evaluations:
        raise UserError(f"the run {config.name} is not evaluated: its report has no evaluations to compare")
    layers = [row.layer for row in rows("scores")]
    facts = RunFacts(
        config.name, config.model.name, "", max(layers, default=-1) + 1, config.model.dtype, "", "", {}, ""
    )
    return Results(facts, [], variants, evaluations, rows("documents"), [], serving=rows("serving"))
