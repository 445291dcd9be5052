"""The head of the report: which variants are acceptable, what they cost and save, and how they are deployed."""

from drop_ray.report import blocks, formatting
from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.blocks import NOTHING, Cell, Column, Table, estimate_cell, ratio_cell, table
from drop_ray.report.choice import Named
from drop_ray.report.deploying import commands
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.rule_text import amount, bounds_text, rule_text, unit
from drop_ray.report.statistics import averages


def answer_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    run, answer = results.run, find_answer(results)
    found: list[blocks.Block] = [named_table(results, answer)] if answer.named else []
    if answer.evidence:
        found.append(blocks.Paragraph(" ".join(answer.evidence)))
    if answer.named:
        lines = [[f"# {one.variant.name}", *commands(run.name, one.variant)] for one in answer.named]
        code = blocks.Code("\n\n".join("\n".join(part) for part in lines), "bash")
        found.append(blocks.Details("Export, load and serve", [code]))
    layers = formatting.count(run.num_layers, "layer")
    facts = f", {layers}, {run.dtype}, started {run.started}"
    pieces = ("Run ", blocks.Strong(run.name), " of ", blocks.Strong(run.model), facts)
    return [blocks.Section(answer.sentence, "answer", [*found, blocks.Paragraph(pieces, note=True)])]


def named_table(results: Results, answer: Answer) -> Table:
    """The base and the named variants: loss, quality, size and speed side by side."""
    rule, base, means = results.accept, results.variants[0], averages(results)
    panels = {row.variant: row for row in results.divergences}
    served = next((one.speedup for one in answer.named if one.speedup), None)
    columns: list[str | Column] = ["variant", Column("named as", "name"), Column("dropped", "name")]
    columns += [Column("loss", note=f"{unit(rule)}, bounds"), "average"]
    columns += ["KL to the base"] if panels else []
    columns += [Column("weights", note="of the base's"), Column("KV/token", note="of the base's")]
    columns += [Column("tokens/s", note=f"{served.workload}, batch {served.batch_size}")] if served else []

    def shared(row: VariantRow, role: str, loss: Cell) -> list[Cell]:
        mean, panel = means.get(row.name), panels.get(row.name)
        cells = [Cell(row.name), Cell(role), Cell(formatting.dropped_layers(row.drop_attn, row.drop_mlp)), loss]
        cells.append(estimate_cell(mean.value, mean.stderr) if mean else NOTHING)
        if panels:
            cells.append(Cell(formatting.score(panel.kl)) if panel else NOTHING)
        for own, whole in (
            (row.weight_bytes, base.weight_bytes),
            (row.kv_bytes_per_token, base.kv_bytes_per_token),
        ):
            cells.append(Cell(formatting.binary_bytes(own), (formatting.percent(own, whole),)))
        return cells

    def line(one: Named) -> list[Cell]:
        assert one.row.loss is not None, "a named variant has a loss"
        loss = Cell(amount(rule, one.row.loss), (bounds_text(rule, one.row),))
        cells = shared(one.variant, ", ".join(one.roles), loss)
        if not served:
            return cells
        speed = one.speedup
        return [*cells, ratio_cell(speed.ratio, speed.low, speed.high) if speed else NOTHING]

    of_base = [*shared(base, "", NOTHING), *([Cell(formatting.ratio(1.0))] if served else [])]
    text = f"Acceptable is what {rule_text(rule)}: the upper bound of its loss is within that."
    return table(columns, [of_base, *map(line, answer.named)], note=text)
