"""Which layers matter: importance by layer of the base, of every drop state of an iteration, and of block windows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

from drop_ray.report import blocks, formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.charts.axes import spans_decades, whole_ticks
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart, charts
from drop_ray.report.results import Results, RunFacts, grouped
from drop_ray.report.rows import ScoreRow
from drop_ray.report.training import Profile, rank_correlation
from drop_ray.text.layer_ranges import layer_ranges

EXPLAINED = {
    "cosine": "1 \u2212 cos of the residual states before and after",
    "angular": "the angle between them, of which a half turn is 1",
    "update_norm": "the length of what is added to the residual stream over the length of the stream",
    "gate_norm": "how strongly queries and keys are coupled, by the weights alone",
    "attention_entropy": "over how many tokens the attention spreads, in nats",
    "kl": "KL of the predictions without it to the base's, in nats per token",
    "loss": "by how much the loss rises without it, in nats per token",
}
"""What the project's metrics are, for readers of the report."""
SCALES_TEXT = "Scales of different metrics have nothing in common, so each has charts of its own. "
MODULES: tuple[str, ...] = ("attention", "mlp", "block")
BASE_STATE = "base"
Profiles = Mapping[str, Profile]
"""Mean importance of the layers, by module."""
NORMAL_95 = 1.96
"""Half width of a 95 % interval in standard errors, for a mean over many samples."""
WIDTH, HEIGHT, TITLE = 1120.0, 182.0, 20.0
NUM_RANKED = 12
STRIPS_TEXT = (
    "One character per layer, the higher the more important, scaled within each strip from lowest to highest (by "
    f"logarithm where they differ more than 10x); {formatting.NO_SCORE} has no score (dropped, or past the last "
    "window)."
)


def scores_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    title, metrics = "Which layers matter", grouped(results.scores, lambda row: row.metric)
    if not metrics:
        return [blocks.Section(title, "scores", [blocks.Paragraph("No scores were computed in this run.")])]
    explained = "; ".join(f"{metric} is {EXPLAINED[metric]}" for metric in metrics if metric in EXPLAINED)
    text = (
        "Importance says how much an attention, an MLP or a block does, averaged over the calibration samples; low is "
        f"little. {SCALES_TEXT if len(metrics) > 1 else ''}"
    ) + (f"Here {explained}." if explained else "")
    drawn: list[str] = ["Whiskers are 95 % confidence intervals."]
    smallest, picked = find_answer(results).smallest, {}
    if smallest:
        attention, mlp = smallest.drop_attn, smallest.drop_mlp
        picked = {"attention": attention, "mlp": mlp, "block": sorted({*attention} & {*mlp})}
        drawn += [" Shaded layers are dropped by ", blocks.Strong(smallest.name), ", the smallest acceptable variant."]
    found: list[blocks.Block] = [
        blocks.Paragraph(text),
        *_layers(results.run),
        blocks.Paragraph(drawn, of_drawings=True),
    ]
    for index, (metric, rows) in enumerate(metrics.items()):
        if len(metrics) > 1:
            found.append(blocks.Heading(metric))
        found += _metric(str(index), metric, rows, results.run, picked)
    if len(metrics) > 1:
        found += _agreement(metrics)
    return [blocks.Section(title, "scores", found)]


def score_charts(
    name: str, scores: Sequence[ScoreRow], num_layers: int, picked: Mapping[str, Collection[int]]
) -> list[XyChart]:
    """One per module; all share one scale, because joint plans rank them together.

    scores: the base's single layers in one metric. Bars from zero, or dots on a logarithmic scale where means span more
    than 10x. picked: layers to shade, by module.
    """
    log = bool(scores) and spans_decades(row.mean for row in scores)
    bounds = [bound for row in scores for bound in (row.mean, _interval(row)[1])]
    found, modules = [], grouped(scores, lambda row: row.module)
    for module, rows in modules.items():
        last = module == [*modules][-1]
        points = [Point(row.layer, row.mean, tooltip(row), interval=_interval(row), css="score") for row in rows]
        line = (("profile", [(row.layer, row.mean) for row in rows]),) if log else ()
        found.append(
            XyChart(
                name=f"scores-{name}-{module}",
                title=f"{module}: importance by layer ({rows[0].metric})",
                subtitle=_ranking(rows),
                description=_ranking(rows),
                x=Axis("layer" if last else "", ends=(-0.6, num_layers - 0.4), ticks=whole_ticks(num_layers - 1, 26)),
                y=Axis(values=bounds, from_zero=True, log=log),
                curves=[Curve(f"series module-{module}", "circle", points, line, bars=not log)],
                size=(WIDTH, HEIGHT + TITLE if last else HEIGHT),
                picked=[(layer - 0.5, layer + 0.5) for layer in picked.get(module, ())],
                css=f"module-{module}",
            )
        )
    return found


def heat_strips(name: str, scores: Sequence[ScoreRow], num_layers: int) -> Iterator[blocks.HeatStrip]:
    """Of one metric: a module over the drop states, and the block windows.

    A module that was scored in one state only has nothing to compare and gets none.
    """
    found: list[tuple[str, dict[str, list[ScoreRow]]]] = []
    for module in MODULES:
        single = (row for row in scores if row.module == module and row.gap == 1)
        states = grouped(single, lambda row: row.drop_state)
        if len(states) > 1:
            found.append((f"{module}: importance as plans grow step by step", states))
    if windows := grouped((row for row in scores if row.gap > 1), _window):
        found.append(("block windows: importance by first layer", windows))
    for number, (title, rows) in enumerate(found):
        strips = [heat_row(label, of_label) for label, of_label in rows.items()]
        yield blocks.HeatStrip(f"heat-{name}-{number}", title, num_layers, strips)


def heat_row(
    label: str, scores: Sequence[ScoreRow], marked: Collection[int] | None = None, note: str = ""
) -> blocks.HeatRow:
    """scores: of one module and gap."""
    values = {row.layer: row.mean for row in scores}
    return blocks.HeatRow(label, values, scores[0].gap, marked, note, {row.layer: tooltip(row) for row in scores})


def tooltip(row: ScoreRow) -> str:
    layers = layer_ranges(range(row.layer, row.layer + row.gap))
    return f"{row.module} {layers}, {row.drop_state}: {_spelled(row.mean, NORMAL_95 * row.stderr)} (95 %)"


def _window(row: ScoreRow) -> str:
    state = "" if row.drop_state == BASE_STATE else f"{row.drop_state}, "
    return f"{state}{row.gap} blocks"


def _metric(
    name: str, metric: str, scores: Sequence[ScoreRow], run: RunFacts, picked: Mapping[str, Collection[int]]
) -> Iterator[blocks.Block]:
    base, num_layers = _base(scores), run.num_layers
    base.sort(key=lambda row: (MODULES.index(row.module), row.layer))
    strips = [heat_row(module, rows) for module, rows in grouped(base, lambda row: row.module).items()]
    in_text: list[blocks.Block] = [
        blocks.Paragraph(STRIPS_TEXT),
        blocks.HeatStrip(f"strip-{name}", f"importance ({metric})", num_layers, strips),
    ]
    first, *others = score_charts(name, base, num_layers, picked) or (None,)
    yield from (*charts([first], in_text), *charts(others))
    yield from heat_strips(name, scores, num_layers)
    if base:
        yield blocks.Details(f"Scores of the base as numbers ({metric})", [_table(base, run)])


def _agreement(metrics: Mapping[str, Sequence[ScoreRow]]) -> Iterator[blocks.Block]:
    """How alike metrics rank the layers of the base; nothing where no two score the same module."""
    profiles = {
        metric: {
            str(module): {row.layer: row.mean for row in of_module}
            for module, of_module in grouped(_base(rows), lambda row: row.module).items()
        }
        for metric, rows in metrics.items()
    }
    rows = [
        (f"{one}, {other}", *(_spelled_correlation(profiles[one], profiles[other], module) for module in MODULES))
        for one, other in combinations(profiles, 2)
        if profiles[one].keys() & profiles[other].keys()
    ]
    if rows:
        note = "Spearman's rank correlation of the layers: 1 is the same ranking, 0 none in common."
        yield blocks.Heading("How far the metrics agree")
        yield blocks.table(("metrics", *MODULES), rows, note=note)


def _spelled_correlation(one: Profiles, other: Profiles, module: str) -> str:
    if module not in one or module not in other:
        return formatting.NOT_AVAILABLE
    found = rank_correlation(one[module], other[module])
    return formatting.NOT_AVAILABLE if found is None else f"{found:.2f}"


def _base(scores: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Rows of the base's single modules."""
    return [row for row in scores if row.drop_state == BASE_STATE and row.gap == 1]


def _layers(run: RunFacts) -> Iterator[blocks.Paragraph]:
    """The kinds of token mixers, where there are several, and what of the base has no score because it must stay."""
    if len(run.mixers) > 1:
        kinds = "; ".join(f"{kind} in layers {layer_ranges(layers)}" for kind, layers in run.mixers.items())
        yield blocks.Paragraph(f"Attention is the token mixer of a layer, of whatever kind: {kinds}.")
    if run.stays:
        yield blocks.Paragraph(f"No plan drops what is not there or must stay: {'; '.join(run.stays)}.")


def _table(base: Sequence[ScoreRow], run: RunFacts) -> blocks.Table:
    spelled = {(row.layer, str(row.module)): _spelled(row.mean, row.stderr) for row in base}
    kinds = {layer: kind for kind, layers in run.mixers.items() for layer in layers} if len(run.mixers) > 1 else {}
    rows = [
        (
            str(layer),
            *([kinds.get(layer, formatting.NOT_AVAILABLE)] if kinds else []),
            *(spelled.get((layer, module), formatting.NOT_AVAILABLE) for module in MODULES),
        )
        for layer in sorted({row.layer for row in base})
    ]
    note = f"Mean {formatting.PLUS_MINUS} one standard error over the calibration samples."
    return blocks.table(("layer", *(["mixer"] if kinds else []), *MODULES), rows, note=note)


def _spelled(value: float, error: float) -> str:
    return f"{formatting.score(value)} {formatting.PLUS_MINUS} {formatting.score(error)}"


def _interval(row: ScoreRow) -> tuple[float, float]:
    return row.mean - NORMAL_95 * row.stderr, row.mean + NORMAL_95 * row.stderr


def _ranking(rows: Sequence[ScoreRow]) -> str:
    ranked = sorted(rows, key=lambda row: (row.mean, row.layer))
    more = ", ..." if len(ranked) > NUM_RANKED else ""
    return "most redundant first: " + ", ".join(str(row.layer) for row in ranked[:NUM_RANKED]) + more
