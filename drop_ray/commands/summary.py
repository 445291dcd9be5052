"""The terminal's text at the end of a run: the importance of layers, the plans, and the locations of results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from drop_ray.commands.heat_strip import heat_strip
from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.evaluation.gates.cliff import Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.pipeline import Outcome
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTable
from drop_ray.report.sections.scores import MODULES
from drop_ray.report.training import checkpoint_lines
from drop_ray.text.console import PLAIN, has_colour
from drop_ray.text.tables import names, numbers, table_lines, words


def outcome_lines(outcome: Outcome, console: Console = PLAIN) -> Iterator[str]:
    for metric, table in outcome.scores.items():
        modules = {module: table.means(module) for module in MODULES if table.layers(module)}
        yield from heat_strip(f"importance ({metric})", modules, outcome.num_layers, console.width, has_colour(console))
        yield ""
    if outcome.plans:
        yield from plan_table(outcome.base, outcome.plans, console)
        yield ""
    if outcome.panels:
        yield from panel_table(outcome.panels, console)
        yield ""
    for metric in next(iter(outcome.training.values()), {}):
        tables = {revision: tables[metric] for revision, tables in outcome.training.items()}
        yield from training_table(metric, tables, console)
        yield ""
    if outcome.verdicts:
        yield from verdict_table(outcome.verdicts, console)
        yield ""
    if outcome.cliffs:
        yield from cliff_table(outcome.cliffs, console)
        yield ""
    if outcome.serving:
        yield from serving_table(outcome.serving, console)
        yield ""
    if outcome.drafts:
        yield from draft_table(outcome.drafts, console)
        yield ""
    for name, path in outcome.checkpoints.items():
        yield f"checkpoint {name}: {path}"
    total = outcome.computed + outcome.found
    if outcome.computed == 0:
        yield f"Nothing to do: all {total} units were done before."
    else:
        yield f"Done: {outcome.computed} units computed, {outcome.found} were done before."
    yield f"plans:  {outcome.folder}/plans/" if outcome.plans else f"run:    {outcome.folder}"
    yield from outcome.tracked
    if outcome.published:
        yield f"report: {outcome.published.report}"
        yield ""
        yield from table_lines(console, (words(),), [(outcome.published.answer,)])


def plan_table(base: DropPlan, plans: Sequence[DropPlan], console: Console = PLAIN) -> list[str]:
    """One row per plan: what it drops, and the part of the parameters and of the KV cache that this saves."""
    rows = [
        (
            plan.name,
            _saved(plan.parameters, base.parameters),
            _saved(plan.kv_bytes_per_token, base.kv_bytes_per_token),
            describe_drops(plan),
        )
        for plan in plans
    ]
    return table_lines(console, (names("plan"), numbers("params saved"), numbers("KV saved"), words("drops")), rows)


def panel_table(panels: Mapping[str, Panel], console: Console = PLAIN) -> list[str]:
    """One row per variant: how far its predictions are from the base's."""
    rows = [
        (
            name,
            f"{panel.kl:.3g} (se {panel.kl_stderr:.2g})",
            f"{panel.kl_p99:.3g}",
            f"{panel.top1_agreement:.1%}",
            f"{panel.acceptance:.1%}",
        )
        for name, panel in panels.items()
    ]
    columns = (names("variant"), *map(numbers, ("KL to the base", "99% of tokens", "same top token", "acceptance")))
    return table_lines(console, columns, rows)


def verdict_table(verdicts: Mapping[str, Verdict], console: Console = PLAIN) -> list[str]:
    """One row per variant: what the damage gates say of it, and why."""
    rows = [(name, verdict.outcome, verdict.reason) for name, verdict in verdicts.items()]
    return table_lines(console, (names("damage gates"), words("verdict"), words("why")), rows)


def cliff_table(cliffs: Sequence[Cliff], console: Console = PLAIN) -> list[str]:
    """One row per strategy: how many drops pass, of how many, and after how many evaluations that is known."""
    rows = [
        (
            *(cliff.strategy, str(cliff.largest), str(cliff.num_counts), str(len(cliff.asked))),
            cliff.reason and f"{cliff.fails}: {cliff.reason}",
        )
        for cliff in cliffs
    ]
    columns = (names("cliff"), numbers("passes"), numbers("of"), numbers("evaluations"), words("the next larger"))
    return table_lines(console, columns, rows)


def training_table(metric: str, training: Mapping[str, ScoreTable], console: Console = PLAIN) -> list[str]:
    """One row per training checkpoint: mean importance, rank correlation with the last, most redundant attention."""
    profiles = {
        revision: {module: table.means(module) for module in MODULES if table.layers(module)}
        for revision, table in training.items()
    }
    rows = []
    for line in checkpoint_lines(profiles):
        means = [f"{line.means[module]:.3g}" if module in line.means else "-" for module in MODULES]
        correlation = line.correlations.get("attention")
        same = "-" if correlation is None else f"{correlation:.2f}"
        rows.append((line.revision, *means, same, ",".join(map(str, line.redundant.get("attention", ())))))
    columns = (
        names("revision"),
        *(numbers(module, min_width=8) for module in MODULES),
        numbers("rank corr."),
        words(f"most redundant attention ({metric})"),
    )
    return table_lines(console, columns, rows)


def serving_table(serving: Mapping[str, Sequence[Mapping[str, Any]]], console: Console = PLAIN) -> list[str]:
    """One row per variant, workload and batch: measured and predicted speedups of whole requests and of decoding.

    serving: rows of serving.parquet by variant. At equal memory the variant's own batch is shown too.
    """
    lines = []
    for variant, rows in serving.items():
        points: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
        for row in rows:
            batch = f"{row['batch_size']}"
            batch += f" -> {row['plan_batch_size']}" if row["comparison"] == "equal_memory" else ""
            points.setdefault((row["workload"], batch), {})[row["metric"]] = row
        for (workload, batch), metrics in points.items():
            output, decode = (metrics.get(f"{kind}_tokens_per_s") for kind in ("output", "decode"))
            name = f"{variant} (itself)" if rows[0]["control"] else variant
            lines.append((name, workload, batch, *_speedup(output), *_speedup(decode)))
    headings = ("variant", "workload", "batch", "output tokens/s", "roofline", "decoding", "roofline")
    return table_lines(console, [*map(words, headings)], lines)


def draft_table(drafts: Mapping[str, Sequence[Mapping[str, Any]]], console: Console = PLAIN) -> list[str]:
    """One row per draft and number of drafted tokens: whether the base's tokens stayed, how many it keeps, the speedup.

    drafts: contents of draft.json by draft.
    """
    lines = []
    for variant, found in drafts.items():
        for row in found:
            speedup = row["speedup"]
            lines.append(
                (
                    *((f"{variant} (no draft)", "-") if row["control"] else (variant, str(row["tokens"]))),
                    f"temperature {row['temperature']:g}"
                    if row.get("temperature")
                    else f"{row['identical']} of {row['prompts']}",
                    " ".join(f"{part:.3f}" for part in row["acceptance"]) or "-",
                    f"x{speedup['ratio']:.2f} ({speedup['low']:.2f} to {speedup['high']:.2f})" if speedup else "-",
                )
            )
    headings = ("draft", "tokens", "same output", "acceptance by position", "output tokens/s")
    return table_lines(console, [*map(words, headings)], lines)


def describe_drops(plan: DropPlan) -> str:
    """`attn 11,9  mlp 4`, in the order of choice; layers that lose both are `block`."""
    both = [layer for layer in plan.drop_attn if layer in plan.drop_mlp]
    groups = {
        "block": both,
        "attn": [layer for layer in plan.drop_attn if layer not in both],
        "mlp": [layer for layer in plan.drop_mlp if layer not in both],
    }
    return "  ".join(f"{kind} {','.join(map(str, layers))}" for kind, layers in groups.items() if layers)


def _speedup(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """The measured speedup with its 95 % interval, and the predicted one."""
    if row is None:
        return "-", "-"
    return f"x{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})", f"x{row['predicted']:.2f}"


def _saved(left: int | None, whole: int | None) -> str:
    return f"{1 - left / whole:.1%}" if left is not None and whole else "-"
