"""What was run: model, versions, configuration, and where every artifact is."""

from collections.abc import Iterator, Sequence

from drop_ray.report import blocks
from drop_ray.report.blocks import Cell, Column, table
from drop_ray.report.formatting import binary_bytes
from drop_ray.report.mix import MixRow
from drop_ray.report.results import Results
from drop_ray.store.identity import canonical_json, fingerprint


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
        "versions": ", ".join(f"{name}\u00a0{version}" for name, version in sorted(run.versions.items())),
    }
    found: list[blocks.Block] = [
        table(("fact", Column("value", "text")), facts.items(), look="plain"),
        *_mix(results.mix),
        blocks.Details("Resolved configuration", [blocks.Code(run.config_yaml, "yaml")]),
    ]
    if results.artifacts:
        rows = [
            (row.step, row.created, binary_bytes(row.bytes), Cell(fingerprint(row.identity), tooltip=spelled), row.path)
            for row in results.artifacts
            if (spelled := canonical_json(row.identity))
        ]
        columns = ("step", "created", "size", Column("identity", "path"), Column("path", "path"))
        note = "The identity is a hash of everything that decides the numbers; it is spelled out under the pointer."
        found.append(blocks.Details(f"Artifacts ({len(rows)})", [table(columns, rows, names=2, note=note)]))
    return [blocks.Section("What was run", "provenance", found)]


def _mix(texts: Sequence[MixRow]) -> Iterator[blocks.Block]:
    """What the calibration text consists of, if it is a mix."""
    if texts:
        total = sum(row.tokens for row in texts)
        rows = [
            (
                row.text,
                f"{row.asked:g}",
                f"{row.part:.2%}",
                f"{row.tokens / total:.2%}",
                str(row.samples),
                f"{row.tokens:,}",
            )
            for row in texts
        ]
        columns = ("text", "share", "of the tokens asked", "of the tokens taken", "samples", "tokens")
        yield blocks.Heading("What the calibration text is mixed from")
        yield table(columns, rows, note="Every sample is of one text; samples of different texts take turns.")
