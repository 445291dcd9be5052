"""The parts of docs/ that are made from the code: `make docs` writes them, a test compares."""

from pathlib import Path

from tiny_models import REPRESENTATIVES

from drop_ray.config.reference import reference_markdown
from drop_ray.models.families import FAMILIES
from drop_ray.quantization.families import QUANTIZABLE

DOCS = Path(__file__).parents[2] / "docs"
YOUR_MODEL, CONFIGURATION = DOCS / "your-model.md", DOCS / "configuration.md"
BEGIN, END = "<!-- families: written by `make docs` -->\n", "<!-- end of families -->\n"
CONFIGURATION_HEAD = """\
<!-- written by `make docs` from drop_ray/config -->
# Configuration

Every field of a run's YAML file. `null` as a default means that the field is not set. `drop-ray schema` prints the
same as JSON schema for [editors](your-model.md#in-an-editor), `drop-ray init MODEL` writes a file to begin with, and
`--set a.b=value` overrides a field of the file: `--set plans.0.drop=[2,4]`. An unknown field is an error.

"""


def families_table() -> str:
    """The families with what is particular about them, from the list that the tests run."""
    lines = ["| models | architecture | decoder layer | quantized by | tested by |", "|---|---|---|---|---|"]
    for architecture, family in FAMILIES.items():
        target = "`make test`" if architecture in REPRESENTATIVES else "`make test-full`"
        methods = ", ".join(QUANTIZABLE[architecture].methods) if architecture in QUANTIZABLE else "no"
        lines.append(f"| {family.models} | `{architecture}` | {family.layers} | {methods} | {target} |")
    return "\n".join(lines) + "\n"


def generated() -> dict[Path, str]:
    """What each page should be now."""
    before, rest = YOUR_MODEL.read_text().split(BEGIN)
    return {
        YOUR_MODEL: before + BEGIN + families_table() + END + rest.split(END)[1],
        CONFIGURATION: CONFIGURATION_HEAD + reference_markdown(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
