"""What was run on each side, and what of it differs."""

from collections.abc import Iterator, Mapping, Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Cell, Column, table
from drop_ray.report.comparing.common import Side
from drop_ray.report.config_fields import config_fields

DIFFERS = "differs"


def facts_blocks(sides: Sequence[Side]) -> Iterator[blocks.Block]:
    """The facts of every run, and where the configurations differ."""
    facts: list[dict[str, str]] = []
    for side in sides:
        run = side.results.run
        versions = {f"version of {name}": version for name, version in sorted(run.versions.items())}
        facts.append(
            {
                "model": run.model,
                "model identity": run.model_identity[:16],
                "layers": str(run.num_layers),
                "dtype": run.dtype,
                "calibration": run.calibration,
                **versions,
                **run.settings,
            }
        )
    started = [Cell("started"), *(Cell(side.results.run.started) for side in sides)]
    yield table(("fact", *(Column(side.label, "text") for side in sides)), [*_rows(facts), started])
    configs = [config_fields(side.results.run.config_yaml) for side in sides]
    if differing := [row for row in _rows(configs) if row[0].badge]:
        columns = (Column("field", "path"), *(Column(side.label, "text") for side in sides))
        shown = [[Cell(row[0].text), *row[1:]] for row in differing]
        yield blocks.Details(f"Configuration, where it differs ({len(shown)})", [table(columns, shown)])


def _rows(facts: Sequence[Mapping[str, str]]) -> list[list[Cell]]:
    """A row for each name; what is not the same everywhere is marked."""
    return [
        [
            Cell(name, badge=DIFFERS if len({found.get(name) for found in facts}) > 1 else ""),
            *(Cell(found.get(name) or formatting.NOT_AVAILABLE) for found in facts),
        ]
        for name in dict.fromkeys(name for found in facts for name in found)
    ]
