"""A section of the report: which variants are more than a drop."""

from drop_ray.report.blocks import Paragraph, Section, table
from drop_ray.report.results import Results


def changed_sections(results: Results) -> list[Section]:
    rows = [(variant.name, ", ".join(variant.changes)) for variant in results.variants if variant.changes]
    if not rows:
        return []
    return [
        Section("Changed further", "changed", [Paragraph("After dropping."), table(("variant", "changes"), rows, 2)])
    ]
