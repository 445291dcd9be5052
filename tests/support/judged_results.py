"""Made-up results for the rule `accept`: a base and variants whose answers differ in stated numbers of documents."""

from collections.abc import Iterator, Mapping, Sequence

from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, Quantization, VariantRow

RUN = RunFacts("r", "m", "id", 4, "float32", "c", "now", {}, "")
BASE = VariantRow("base", "base", None, 0, (), (), 1000, 0, 80, 0, None, 2_000)
Flips = tuple[int, int, int]
"""Documents that only the base has right, those that only the variant has right, and all."""


def variant(
    name: str,
    attn: tuple[int, ...],
    mlp: tuple[int, ...] = (),
    strategy: str = "attention",
    quantized: str | None = None,
    **fields: object,
) -> VariantRow:
    """Without so many sub-layers; quantized: of which variant's weights, to a quarter of their bytes."""
    saved, num_dropped = 50 * len(attn) + 100 * len(mlp), len({*attn, *mlp})
    sizes = (1000 - saved, saved, 80 - 20 * len(attn), 20 * len(attn))
    how = Quantization(quantized, "awq", "awq", 4, 128, False, False) if quantized else None
    weight_bytes = 2 * (1000 - saved) // (4 if quantized else 1)
    made: dict[str, object] = {"quantization": how, "changes": ("awq",) if quantized else (), **fields}
    return VariantRow(name, strategy, "cosine", num_dropped, attn, mlp, *sizes, None, weight_bytes, **made)


def judged(variants: Sequence[VariantRow], flips: Mapping[tuple[str, str], Flips], **fields: object) -> Results:
    """flips: by variant and task. The base has half of a task's documents right, and more where more are lost."""
    totals = {task: total for (_, task), (_, _, total) in flips.items()}
    lost = {task: max(one[0] for (_, other), one in flips.items() if other == task) for task in totals}
    right = {task: max(total // 2, lost[task]) for task, total in totals.items()}
    documents = [row for task, total in totals.items() for row in _documents("base", task, right[task], (0, 0, total))]
    for (name, task), found in flips.items():
        documents += _documents(name, task, right[task], found)
    return Results(RUN, [], [BASE, *variants], [*_evaluations(documents)], documents, [], **fields)


def _documents(name: str, task: str, right: int, flips: Flips) -> Iterator[DocumentRow]:
    lost, gained, total = flips
    for doc_id in range(total):
        is_right = lost <= doc_id < right or right <= doc_id < right + gained
        yield DocumentRow(name, task, "acc", doc_id, float(is_right))


def _evaluations(documents: Sequence[DocumentRow]) -> Iterator[EvaluationRow]:
    for name, task in dict.fromkeys((row.variant, row.task) for row in documents):
        values = [row.value for row in documents if (row.variant, row.task) == (name, task)]
        mean, count = sum(values) / len(values), len(values)
        yield EvaluationRow(name, task, "acc", mean, (mean * (1 - mean) / count) ** 0.5, True, count, None, True)
