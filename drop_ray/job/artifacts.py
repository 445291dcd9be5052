"""Names of the outputs that the steps of a run leave in the store, and schemas of their tables."""

import pyarrow as pa

SAMPLES = "calibration.parquet"
SCORES = "scores.parquet"
CHECKPOINT = "checkpoint"
PATCH = "patch"
REFIT = "refit.parquet"
HELD_OUT = "held_out.parquet"
METRICS = "metrics.json"
DOCUMENTS = "documents.parquet"
LOGGED_SAMPLES = "samples.parquet"
DIVERGENCE = "divergence.parquet"
PANEL = "divergence.json"
RECONSTRUCTION = "reconstruction.parquet"
EXPERTS = "experts.json"
GATES = "gates.json"
GATE_ITEMS = "gates.parquet"
SERVING = "serving.parquet"
SERVING_FACTS = "serving.json"
DRAFT = "draft.json"
SAMPLING = "sampling.json"

SCORE_SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),
        ("layer", pa.int32()),
        ("gap", pa.int32()),
        ("module", pa.string()),
        ("metric", pa.string()),
        ("total", pa.float64()),
        ("tokens", pa.int64()),
    ]
)

DIVERGENCE_SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),
        ("tokens", pa.int32()),
        ("kl", pa.float64()),
        ("base_nll", pa.float64()),
        ("variant_nll", pa.float64()),
        ("agreed", pa.float64()),
        ("acceptance", pa.float64()),
    ]
)
"""A row per sample: its predicted tokens, and the sums over them of what `evaluation.divergence.Comparison` has."""

RECONSTRUCTION_SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("module", pa.string()),
        ("squared_output", pa.float64()),
        ("squared_method", pa.float64()),
        ("squared_round_to_nearest", pa.float64()),
    ]
)
"""The fields of `quantization.reconstruction.LayerError`, a row per sub-layer."""

REFIT_SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("module", pa.string()),
        ("ridge", pa.float64()),
        ("tokens", pa.int64()),
        ("inputs", pa.int32()),
        ("fitted_before", pa.float64()),
        ("fitted_after", pa.float64()),
        ("held_out_before", pa.float64()),
        ("held_out_after", pa.float64()),
    ]
)
"""The fields of `refit.fitting.Fit`, a row per refitted sub-layer."""

HELD_OUT_SCHEMA = pa.schema(
    [
        ("sample", pa.int32()),
        ("tokens", pa.int64()),
        ("kl_dropped", pa.float64()),
        ("kl_refitted", pa.float64()),
    ]
)
"""The fields of `refit.refitting.HeldOut`, a row per sample that was not fitted to."""

SERVING_SCHEMA = pa.schema(
    [
        ("workload", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("engine", pa.string()),
        ("mode", pa.string()),
        ("control", pa.bool_()),
        ("comparison", pa.string()),
        ("batch_size", pa.int32()),
        ("plan_batch_size", pa.int32()),
        ("metric", pa.string()),
        ("base", pa.float64()),
        ("plan", pa.float64()),
        ("ratio", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("pairs", pa.int32()),
        ("predicted", pa.float64()),
    ]
)
"""A row per workload, batch size, comparison and metric. `report.results.ServingRow` says what the columns mean."""
