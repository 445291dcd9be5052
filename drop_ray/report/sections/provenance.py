"""What was run: model, versions, configuration, and where every artifact is."""

from drop_ray.report import blocks
from drop_ray.report.blocks import Cell, Column, table
from drop_ray.report.formatting import binary_bytes
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
