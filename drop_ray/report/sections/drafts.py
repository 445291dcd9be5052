"""Variants as drafts of the base: which are predicted to pay, and what was measured of them."""

from collections.abc import Sequence

from drop_ray.report import blocks
from drop_ray.report.blocks import NOTHING, Cell, Column, Table, ratio_cell, table
from drop_ray.report.draft_rows import (
    DraftPlanRow,
    DraftPrediction,
    DraftRow,
    DraftSpeedup,
    SamplingRow,
    draft_predictions,
    failed_drafts,
)
from drop_ray.report.formatting import binary_bytes, count, number, percent
from drop_ray.report.results import Results, grouped
from drop_ray.serving.ratios import INTERVAL_TEXT

TEXT = (
    "A variant drafts tokens, and the base keeps those that it would have generated itself: what comes out is the "
    "base's own, and only its speed changes (speculative decoding)."
)
RANKING_TEXT = (
    "Predicted is (1 - a^(k+1)) / ((1 - a) (v + k c)): a is the part of the draft's tokens that the base keeps, by the "
    "divergence panel; c is the time of a decoding step of the draft over one of the base; v is that of the base's "
    "step on k + 1 tokens over its step on one, which is 1 where no hardware is stated."
)
MEASURED_TEXT = (
    f"Speedups over the base without a draft, in pairs on the same prompts. {INTERVAL_TEXT}. Acceptance is the share "
    "of steps in which all drafted tokens up to a position were kept. What is predicted here takes for a the share of "
    "the base's own greedy tokens that are the draft's first choice in a forward pass; of sampling, 1 - total "
    "variation by the panel, which is of temperature 1."
)
SAMPLING_TEXT = (
    "Where tokens are drawn, outputs differ by chance. Drafts are measured there only if the base, as its own draft, "
    "has nearly all of its tokens kept, and if what comes out is distributed as without a draft: permutation tests of "
    "two samples, one for each prompt and position, at 1 % over all of them."
)
MEMORY_TEXT = (
    "What a draft takes besides the base. vLLM 0.32 shares nothing between the two: neither weights, the embedding "
    "and the output layer among them, nor KV cache. On the disk, a draft that only lacks sub-layers takes nothing: it "
    "links to the base's files."
)


def drafts_sections(results: Results) -> list[blocks.Section]:
    """None of a run without `serving.drafts`."""
    if not results.drafts and not results.draft_plans and not results.sampling:
        return []
    found: list[blocks.Block] = [blocks.Paragraph(" ".join([TEXT, *_findings(results)]))]
    if results.draft_plans:
        found += [
            *(blocks.Heading("Which drafts pay"), blocks.Paragraph(RANKING_TEXT, note=True)),
            ranking_table(results.draft_plans),
        ]
    drafts = [row for row in results.drafts if not row.control]
    if drafts:
        found += [
            *(blocks.Heading("As measured"), blocks.Paragraph(MEASURED_TEXT, note=True)),
            measured_table(drafts, list(draft_predictions(results))),
            *(blocks.Heading("Memory of drafts"), blocks.Paragraph(MEMORY_TEXT), memory_table(drafts)),
        ]
    if results.sampling:
        found += [
            *(blocks.Heading("Whether drafts may sample"), blocks.Paragraph(SAMPLING_TEXT)),
            sampling_table(results.sampling),
        ]
    return [blocks.Section("Drafts", "drafts", found)]


def ranking_table(rows: Sequence[DraftPlanRow]) -> Table:
    """The best first, for greedy decoding and for sampling."""
    lines = [
        (
            *(row.variant, row.decoding, number(row.acceptance, 3), Cell(number(row.cost, 3), (row.cost_from,))),
            *(str(row.tokens), number(row.verification, 2), number(row.speedup, 2), row.reason),
        )
        for row in rows
    ]
    heads = ("acceptance a", "cost c", "best k", Column("v", note="by a roofline"), "predicted", Column("so", "text"))
    return table(("variant", "decoding", *heads), lines, names=2)


def measured_table(rows: Sequence[DraftRow], predictions: Sequence[DraftPrediction]) -> Table:
    known = {(one.variant, one.tokens, one.temperature): one for one in predictions}
    lines = []
    for row in rows:
        predicted = known[row.variant, row.tokens, row.temperature]
        lines.append(
            (
                *(_named(row), str(row.tokens), _identity(row), " ".join(f"{part:.3f}" for part in row.acceptance)),
                _beside(predicted.first_acceptance, _expected(predicted), 3),
                _beside(predicted.tokens_per_step, predicted.predicted_tokens_per_step, 2),
                *(_speedup(row.speedup), _speedup(row.decode_speedup)),
                NOTHING if predicted.predicted_speedup is None else Cell(number(predicted.predicted_speedup, 2)),
            )
        )
    columns = (
        *("variant", "k", Column("same output", note="prompts"), Column("acceptance", note="by position")),
        *(Column("at the first", note="predicted"), Column("tokens per step", note="predicted")),
        *(Column("speedup", note="output tokens/s"), Column("speedup", note="decode tokens/s"), "predicted"),
    )
    return table(columns, lines)


def memory_table(rows: Sequence[DraftRow]) -> Table:
    """A row per draft: the number of drafted tokens changes nothing of it."""
    lines = [
        (
            variant,
            _part(measured[0].draft_weights_bytes, measured[0].base_weights_bytes),
            _part(measured[0].draft_kv_bytes_per_token, measured[0].base_kv_bytes_per_token),
        )
        for variant, measured in grouped(rows, lambda row: row.variant).items()
    ]
    return table(("variant", Column("weights", note="of the base's"), Column("KV cache of a token")), lines)


def _findings(results: Results) -> list[str]:
    sentences = []
    if caches := dict.fromkeys(row.kv_cache_dtype for row in results.drafts if row.kv_cache_dtype != "auto"):
        sentences.append(f"Both KV caches are in {', '.join(caches)}.")
    measured = [row for row in results.drafts if not row.control]
    if measured:
        failed = failed_drafts(measured)
        sentences.append(
            f"Of {count(len(measured), 'measured draft')}, {len(measured) - len(failed)} left the base's output as it "
            "was."
        )
        if faster := [row for row in measured if row.speedup is not None and row.speedup.low > 1]:
            best = max(faster, key=lambda row: row.speedup.ratio if row.speedup else 0.0)
            assert best.speedup is not None
            sentences.append(
                f"Fastest is {best.variant} with {count(best.tokens, 'drafted token')}: {best.speedup.ratio:.2f} "
                "times as many output tokens per second."
            )
        else:
            sentences.append("With none of them the base is seen to be faster.")
    sentences += [
        f"Drafts at temperature {row.temperature:g} are refused: {row.reason}."
        for row in results.sampling
        if not row.holds
    ]
    sentences += [
        f"Control: the base against itself is {row.speedup.ratio:.3f} times as fast "
        f"[{row.speedup.low:.3f}, {row.speedup.high:.3f}]."
        for row in results.drafts
        if row.control and row.speedup is not None
    ]
    for decoding, rows in grouped(results.draft_plans, lambda row: row.decoding).items():
        if not any(row.pays for row in rows):
            place = f"batch {rows[0].batch_size} and {rows[0].context} tokens of context"
            sentences.append(f"At {place} no variant is predicted to pay as a draft ({decoding}).")
    return sentences


def sampling_table(rows: Sequence[SamplingRow]) -> Table:
    """What the gate found at each temperature."""
    lines = [
        (
            *(f"{row.temperature:g}", "measured" if row.holds else "refused", str(row.tokens)),
            Cell(" ".join(f"{part:.3f}" for part in row.kept), (f"{row.least_kept} at least",)),
            Cell(f"{row.smallest_p:.2g}", (f"of {row.tests}; {row.level / row.tests:.2g} at least",)),
            row.reason,
        )
        for row in rows
    ]
    columns = ("temperature", Column("drafts", "text"), "k", Column("kept", note="by position"), "smallest p")
    return table((*columns, Column("because", "text")), lines)


def _named(row: DraftRow) -> Cell:
    return Cell(row.variant, (f"temperature {row.temperature:g}",) if row.temperature else ())


def _expected(predicted: DraftPrediction) -> float | None:
    """The acceptance that is predicted."""
    return predicted.acceptance_of_panel if predicted.temperature else predicted.agreement


def _identity(row: DraftRow) -> Cell:
    if row.identical is None:
        return Cell("in distribution")
    notes = () if row.margin is None else (f"margin {number(row.margin, 3)}",)
    return Cell(f"{row.identical} of {row.prompts}{'' if row.holds else ': not the base'}", notes)


def _beside(measured: float, predicted: float | None, decimals: int) -> Cell:
    return Cell(number(measured, decimals), () if predicted is None else (number(predicted, decimals),))


def _speedup(found: DraftSpeedup | None) -> Cell:
    return NOTHING if found is None else ratio_cell(found.ratio, found.low, found.high)


def _part(own: int, base: int) -> Cell:
    return Cell(binary_bytes(own), (percent(own, base),))
