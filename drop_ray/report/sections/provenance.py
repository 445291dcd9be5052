"""What was run: model, versions, configuration, and where every artifact is."""

from drop_ray.identity import canonical_json, fingerprint
from drop_ray.report import formatting
from drop_ray.report.blocks import Block, Cell, Code, Column, Details, Section, Table, cells
from drop_ray.report.results import Results


def provenance_sections(results: Results) -> list[Section]:
    """Always one."""
    run = results.run
    facts = {
        "model": run.model,
        "model identity": run.model_identity,
        "layers": str(run.num_layers),
        "dtype": run.dtype,
        "calibration": run.calibration,
        "started": run.started,
        "versions": ", ".join(f"{name}\u00a0{version}" for name, version in sorted(run.versions.items())),
    }
    blocks: list[Block] = [
        Table(
            [Column("fact", "name"), Column("value", "text")], [cells(*fact) for fact in facts.items()], look="plain"
        ),
        Details("Resolved configuration", [Code(run.config_yaml, "yaml")]),
    ]
    if results.artifacts:
        rows = [
            (
                *cells(row.step, formatting.binary_bytes(row.bytes), row.created),
                Cell(fingerprint(row.identity), tooltip=canonical_json(row.identity)),
                Cell(row.path),
            )
            for row in results.artifacts
        ]
        kinds = (Column("step", "name"), Column("size"), Column("created", "name"))
        note = "The identity is a hash of everything that decides the numbers; it is spelled out under the pointer."
        table = Table([*kinds, Column("identity", "path"), Column("path", "path")], rows, note=note)
        blocks.append(Details(f"Artifacts ({len(results.artifacts)})", [table]))
    return [Section("What was run", "provenance", blocks)]
