"""What the steps of a run leave in the store: names of outputs and the schema of score tables."""

import pyarrow as pa

SAMPLES = "calibration.parquet"
SCORES = "scores.parquet"
CHECKPOINT = "checkpoint"
METRICS = "metrics.json"
DOCUMENTS = "documents.parquet"

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
