"""The parts of docs/ that are made from the code: `make docs` writes them, a test compares."""

from pathlib import Path

from sizing_table import sizing_table
from tiny_models import REPRESENTATIVES

from drop_ray.config.reference import reference_markdown
from drop_ray.models.families import FAMILIES
from drop_ray.models.wrappers import WRAPPERS
from drop_ray.quantization.families import QUANTIZABLE

DOCS = Path(__file__).parents[2] / "docs"
YOUR_MODEL, CONFIGURATION, CLUSTER = (DOCS / f"{name}.md" for name in ("your-model", "configuration", "cluster"))
BEGIN, END = "<!-- families: written by `make docs` -->\n", "<!-- end of families -->\n"
SIZES_BEGIN, SIZES_END = "<!-- sizes: written by `make docs` -->\n", "<!-- end of sizes -->\n"
WRAPPERS_BEGIN, WRAPPERS_END = "<!-- wrappers: written by `make docs` -->\n", "<!-- end of wrappers -->\n"
CONFIGURATION_HEAD = """\
<!-- written by `make docs` from drop_ray/config -->
# Configuration

Every field of a run's YAML file. `null` as a default means that the field is not set. `drop-ray schema` prints the
same as JSON schema for [editors](your-model.md#in-an-editor), `drop-ray init MODEL` writes a file to begin with, and
`--set a.b=value` overrides a field of the file: `--set plans.0.drop=[2,4]`. An unknown field is an error.
Paths are relative to the folder in which the command is run; those that begin with `demo:` come with drop_ray.

"""


def families_table() -> str:
    """The families with what is particular about them, from the list that the tests run."""
    lines = ["| models | architecture | decoder layer | quantized by | vLLM | tested by |", "|---|---|---|---|---|---|"]
    for architecture, family in FAMILIES.items():
        target = "`make test`" if architecture in REPRESENTATIVES else "`make test-full`"
        methods = ", ".join(QUANTIZABLE[architecture].methods) if architecture in QUANTIZABLE else "no"
        served = "yes" if family.is_served else "no"
        lines.append(f"| {family.models} | `{architecture}` | {family.layers} | {methods} | {served} | {target} |")
    return "\n".join(lines) + "\n"


def wrappers_table() -> str:
    """The multimodal checkpoints, from the list that the tests run."""
    lines = ["| models | architecture | computed as |", "|---|---|---|"]
    for architecture, wrapper in WRAPPERS.items():
        inside = ", ".join(f"`{name}`" for name in wrapper.language_models)
        lines.append(f"| {wrapper.models} | `{architecture}` | {inside} |")
    return "\n".join(lines) + "\n"


def _with(page: str, begin: str, table: str, end: str) -> str:
    before, rest = page.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def generated() -> dict[Path, str]:
    """What each page should be now."""
    page = _with(YOUR_MODEL.read_text(), BEGIN, families_table(), END)
    return {
        YOUR_MODEL: _with(page, WRAPPERS_BEGIN, wrappers_table(), WRAPPERS_END),
        CLUSTER: _with(CLUSTER.read_text(), SIZES_BEGIN, sizing_table(), SIZES_END),
        CONFIGURATION: CONFIGURATION_HEAD + reference_markdown(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
