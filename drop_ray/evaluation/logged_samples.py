"""Prompts and responses of every document, as lm-eval writes them into its `samples_*.jsonl` files.

`lm_eval.loggers.EvaluationTracker.save_results_samples` puts arguments and responses into a form that loaders of JSON
data sets read. The same is done here, in the worker, so that the report only writes lines.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from lm_eval.utils import handle_non_serializable, sanitize_list

SCHEMA = pa.schema([("task", pa.string()), ("doc_id", pa.int64()), ("filter", pa.string()), ("line", pa.string())])
"""A line of a JSONL file a row, in lm-eval's order: by task, then by filter and document."""


def logged_samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> pa.Table:
    """The samples of lm-eval's result dictionary, with `SCHEMA`."""
    rows = [
        {"task": task, "doc_id": sample["doc_id"], "filter": sample["filter"], "line": _line(sample)}
        for task, of_task in samples.items()
        for sample in of_task
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _line(sample: Mapping[str, Any]) -> str:
    arguments = {
        f"gen_args_{number}": {f"arg_{place}": value for place, value in enumerate(values)}
        for number, values in enumerate(sample["arguments"])
    }
    written = {
        **sample,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "arguments": arguments,
        "target": str(sample["target"]),
    }
    return json.dumps(written, default=handle_non_serializable, ensure_ascii=False)
