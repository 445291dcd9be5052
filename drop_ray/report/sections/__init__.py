"""What a report shows, in order: each section is one file with a pure function from `Results` to sections.

A package from outside adds one by an entry point, and it stands before what was run:

    [project.entry-points."drop_ray.sections"]
    energy = "my_package.report:energy_section"
"""

from drop_ray.extensions import SECTIONS
from drop_ray.report.blocks import Section
from drop_ray.report.results import Results

# What was run stands at the end, behind the sections of other packages.
LAST = "provenance"


def report_sections(results: Results) -> list[Section]:
    """All of a run, the answer first."""
    names = [*(name for name in SECTIONS.names if name != LAST), LAST]
    return [section for name in names for section in SECTIONS.load(name)(results)]
