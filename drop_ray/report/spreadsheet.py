"""results.csv: a line for every number of every variant, with what the variant is, for a spreadsheet."""

import csv
import io
from collections.abc import Iterator

from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow

HEADINGS = (
    *("variant", "strategy", "changes", "dropped_attention", "dropped_mlp", "parameters", "weight_bytes"),
    *("kv_bytes_per_token", "task", "metric", "value", "stderr", "higher_is_better", "documents", "num_fewshot"),
)


def results_csv(results: Results) -> str:
    """Tasks and texts as evaluated, KL as the task `kl`. Spaces separate layers; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADINGS)
    for variant in results.variants:
        writer.writerows((*_of_variant(variant), *numbers) for numbers in _numbers(results, variant.name))
    return text.getvalue()


def _of_variant(row: VariantRow) -> tuple[object, ...]:
    attention, mlp = (" ".join(map(str, layers)) for layers in (row.drop_attn, row.drop_mlp))
    sizes = (row.parameters, row.weight_bytes, row.kv_bytes_per_token)
    return (row.name, row.strategy, "-".join(row.changes), attention, mlp, *sizes)


def _numbers(results: Results, name: str) -> Iterator[tuple[object, ...]]:
    for row in results.evaluations:
        if row.variant == name:
            value = (row.task, row.metric, row.value, row.stderr, row.higher_is_better)
            yield (*value, row.num_documents, row.num_fewshot)
    for panel in results.divergences:
        if panel.variant == name:
            yield ("kl", "nats", panel.kl, panel.kl_stderr, False, panel.samples, None)
