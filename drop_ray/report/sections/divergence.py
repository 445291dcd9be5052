"""Divergence panels: how far each variant's predictions are from the base's, and which variants that tells apart."""

import math
from collections.abc import Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Cell, Column, Table, table
from drop_ray.report.charts.axes import whole_ticks
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart, charts
from drop_ray.report.divergence import SEPARATED, DivergencePair, equal_variants, pairs
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceText
from drop_ray.report.results import Results
from drop_ray.report.sections.quality import MAIN_SIZE
from drop_ray.report.series import Series, strategy_series

ORDERS = {"size": "Within a strategy", "kl": "In the order of KL"}
MEANING = (
    "KL is what a variant's prediction of a token loses against the base's, in nats, on average; 0 is the same "
    "prediction. Same top token is the share of tokens at which both find the same one most probable. Acceptance is "
    "how often a token that is drawn from the variant's prediction would be kept by the base, were the variant its "
    "draft. "
    f"Values are {formatting.PLUS_MINUS} one standard error over samples; the interval of a ratio is of 95 %."
)


def divergence_sections(results: Results) -> list[blocks.Section]:
    """None where nothing was to be compared."""
    text, title = results.divergence_text, "Predictions against the base's"
    if text is None:
        return []
    if not results.divergences:
        said = text.shortage or "No variant was compared."
        return [blocks.Section(title, "divergence", [blocks.Paragraph(_sentence(said))])]
    found: list[blocks.Block] = [blocks.Paragraph(f"{_text_of(text)} {MEANING}")]
    if text.shortage:
        found.append(blocks.Paragraph(_sentence(text.shortage), note=True))
    found += charts([_chart(results.unquantized())])
    found.append(_panels(results.divergences))
    if all_pairs := pairs(results):
        tables = [_pairs(all_pairs, *each) for each in ORDERS.items()]
        found += [
            blocks.Heading("Which variants KL tells apart"),
            blocks.Paragraph(_verdict(all_pairs)),
            *(one for one in tables if one.rows),
        ]
    found += [
        blocks.Paragraph(f"{', '.join(names)} have the same numbers: they drop the same.", note=True)
        for names in equal_variants(results)
    ]
    return [blocks.Section(title, "divergence", found)]


def _text_of(text: DivergenceText) -> str:
    samples = formatting.count(text.num_samples, "sample")
    return (
        f"Base and variants read the same {samples} of {text.seq_len:,} tokens ({text.source}), and their predictions "
        "of every token are compared."
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}".rstrip(".") + "."


def _chart(results: Results) -> XyChart | None:
    rows = {row.variant: row for row in results.divergences}
    series = [one for one in strategy_series(results.variants) if any(row.name in rows for row in one.variants)]
    if not series:
        return None
    last = max(row.sublayers_dropped for one in series for row in one.variants) or 1
    # A variant that is equal to the base has no place on a logarithmic scale.
    return XyChart(
        name="divergence-chart",
        title="KL to the base",
        subtitle="nats per token, lower is better",
        description=f"Mean KL to the base of {len(rows)} variants against the number of sub-layers dropped; lower is "
        "better.",
        x=Axis("sub-layers dropped", ends=(-0.03 * last, 1.03 * last), ticks=whole_ticks(last, 12)),
        y=Axis(log=True),
        curves=[_curve(one, rows) for one in series],
        size=MAIN_SIZE,
        dodge=True,
    )


def _curve(series: Series, rows: dict[str, DivergenceRow]) -> Curve:
    """Where seeds give several variants of one size, the line runs through their mean."""
    sizes: dict[int, list[float]] = {}
    points = []
    for variant in series.variants:
        row = rows.get(variant.name)
        if row is None or row.kl == 0:
            continue
        sizes.setdefault(variant.sublayers_dropped, []).append(row.kl)
        cell = _with_error(row.kl, row.kl_stderr)
        spelled = " ".join((cell.text, *cell.notes, "nats per token"))
        points.append(
            Point(
                variant.sublayers_dropped,
                row.kl,
                f"{variant.name}: {spelled}, {variant.sublayers_dropped} dropped",
                interval=(row.kl - row.kl_stderr, row.kl + row.kl_stderr),
            )
        )
    line = [(float(size), math.fsum(found) / len(found)) for size, found in sorted(sizes.items())]
    return Curve(
        series.css,
        series.shape,
        points,
        lines=[("line", line)] if series.connected else [],
        label=series.label,
        end=line[-1] if line else None,
    )


def _panels(rows: Sequence[DivergenceRow]) -> Table:
    columns: list[str | Column] = ["variant", Column("KL", note="nats per token"), Column("median", note="of tokens")]
    columns += [Column("99 %", note="of tokens below"), Column("99.9 %"), "largest"]
    columns += ["same top token", "acceptance", Column("perplexity", note="over the base's")]
    lines = [
        [
            Cell(row.variant),
            _with_error(row.kl, row.kl_stderr),
            *(Cell(_nats(value)) for value in (row.kl_median, row.kl_p99, row.kl_p999, row.kl_max)),
            Cell(_percent(row.top1_agreement)),
            Cell(_percent(row.acceptance)),
            blocks.ratio_cell(row.perplexity_ratio, *row.perplexity_interval),
        ]
        for row in rows
    ]
    return table(columns, lines, look="stacked")


def _verdict(found: Sequence[DivergencePair]) -> str:
    parts = []
    for order, title in ORDERS.items():
        apart = [pair.separated for pair in found if pair.order == order]
        if apart:
            parts.append(f"of {sum(apart)} of {len(apart)} neighbours {title[0].lower()}{title[1:]}")
    return (
        f"Apart are two variants with at least {SEPARATED:g} standard errors between them; differences are paired by "
        f"sample, as both read the same text. That holds {', and '.join(parts)}."
    )


def _pairs(found: Sequence[DivergencePair], order: str, title: str) -> Table:
    difference = Column("difference in KL", note="nats per token")
    lines = [
        (
            pair.variant,
            pair.following,
            _with_error(pair.difference, pair.stderr),
            formatting.number(pair.standard_errors, 1),
            "yes" if pair.separated else "no",
        )
        for pair in found
        if pair.order == order
    ]
    return table(("variant", "next", difference, "standard errors", "apart"), lines, names=2, title=title)


def _with_error(value: float, stderr: float) -> Cell:
    """Both with the decimals that the first two digits of the error take."""
    decimals = 1 - math.floor(math.log10(stderr)) if stderr > 0 else 4
    return Cell(_fixed(value, decimals), (f"{formatting.PLUS_MINUS} {_fixed(stderr, decimals)}",))


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if 0 <= decimals < 8 else formatting.score(value)


def _nats(value: float) -> str:
    return formatting.score(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
