"""How it was made: model, texts, versions, time, warnings, the command that makes it again, and every artifact."""

from collections.abc import Iterator, Sequence

from drop_ray.report import blocks
from drop_ray.report.blocks import Cell, Column, table
from drop_ray.report.costs import HOUR_S, total_costs
from drop_ray.report.formatting import binary_bytes, count
from drop_ray.report.results import Results, RunFacts, grouped
from drop_ray.report.texts import TextRow
from drop_ray.store.identity import canonical_json, fingerprint
from drop_ray.text.units import human_duration, human_hours


def provenance_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    run = results.run
    facts = {
        "model": run.model,
        "model identity": run.model_identity,
        "layers": str(run.num_layers),
        "dtype": run.dtype,
        "calibration": run.calibration,
        **run.settings,
        "started": run.started,
        **_spent(results),
        "versions": ", ".join(f"{name}\u00a0{version}" for name, version in sorted(run.versions.items())),
    }
    found: list[blocks.Block] = [table(("fact", Column("value", "text")), facts.items(), look="plain")]
    found += [*_texts(results.texts), *_warnings(run), *_again(run)]
    found.append(blocks.Details("Resolved configuration", [blocks.Code(run.config_yaml, "yaml")]))
    if results.artifacts:
        rows = [
            (row.step, row.created, binary_bytes(row.bytes), Cell(fingerprint(row.identity), tooltip=spelled), row.path)
            for row in results.artifacts
            if (spelled := canonical_json(row.identity))
        ]
        columns = ("step", "created", "size", Column("identity", "path"), Column("path", "path"))
        note = "The identity is a hash of everything that decides the numbers; it is spelled out under the pointer."
        found.append(blocks.Details(f"Artifacts ({len(rows)})", [table(columns, rows, names=2, note=note)]))
    return [blocks.Section("How it was made", "provenance", found)]


def _spent(results: Results) -> dict[str, str]:
    """The whole of what the section on costs has by stage; nothing where no time was recorded."""
    total = total_costs(results.costs)
    if total.units == total.unmeasured_units:
        return {}
    if total.measured_gpu_seconds:
        return {"GPU-hours": human_hours(total.measured_gpu_seconds / HOUR_S)}
    return {"time of workers": f"{human_duration(total.worker_seconds + total.reused_worker_seconds)}, no GPU"}


def _texts(texts: Sequence[TextRow]) -> Iterator[blocks.Block]:
    """Every text, a row for each part of a mix."""
    if not texts:
        return
    whole = {of: sum(row.tokens for row in parts) for of, parts in grouped(texts, lambda row: row.of).items()}
    rows = [
        (
            *(row.of, row.text, f"{row.asked:g}", f"{100 * row.part:.2f} %"),
            *(f"{100 * row.tokens / whole[row.of]:.2f} %", f"{row.samples:,}", f"{row.tokens:,}"),
        )
        for row in texts
    ]
    columns = ("used for", Column("text", "text"), "share", "of the tokens asked", "of the tokens taken")
    note = "Every sample is of one text; in a mix, samples of different texts take turns."
    yield blocks.Heading("The calibration text and the others")
    yield table((*columns, "samples", "tokens"), rows, note=note)


def _warnings(run: RunFacts) -> Iterator[blocks.Block]:
    if run.warnings:
        yield blocks.Heading(count(len(run.warnings), "warning"))
        yield blocks.Bullets(run.warnings)


def _again(run: RunFacts) -> Iterator[blocks.Block]:
    """How the run is done once more."""
    file = f"{run.name}.yaml"
    yield blocks.Heading("To make it again")
    yield blocks.Paragraph(
        f"With the versions above, and the resolved configuration below as {file}; it lies as runs/{run.name}/"
        "config.yaml in the store, too. In a store of its own everything is computed anew, and the numbers are equal "
        "if the identities are."
    )
    yield blocks.Code(f"drop-ray run {file} --set store=ANOTHER-STORE", "bash")
