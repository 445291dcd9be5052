"""The README's table of model families, from the list that the tests run. Run as a script, it writes it there."""

from pathlib import Path

from tiny_models import REPRESENTATIVES

from drop_ray.models.families import FAMILIES
from drop_ray.quantization.families import QUANTIZABLE

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- families: written by tests/families_table.py -->\n", "<!-- end of families -->\n"


def families_table() -> str:
    lines = ["| models | architecture | decoder layer | quantized by | tested by |", "|---|---|---|---|---|"]
    for architecture, family in FAMILIES.items():
        target = "`make test`" if architecture in REPRESENTATIVES else "`make test-full`"
        methods = ", ".join(QUANTIZABLE[architecture].methods) if architecture in QUANTIZABLE else "no"
        lines.append(f"| {family.models} | `{architecture}` | {family.layers} | {methods} | {target} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + families_table() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
