"""`drop-ray compare RUN RUN...`: finished runs side by side, in one report."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command
from drop_ray.errors import UserError


def add(subparsers: Any) -> None:
    command = add_command(subparsers, "compare", "two or more finished runs side by side, in one report", run)
    command.add_argument("runs", nargs="+", metavar="RUN", help="YAML files or folders of finished runs")
    command.add_argument("--output", type=Path, help="an .html or .md file to write; both if it ends in neither")


def run(options: argparse.Namespace) -> int:
    if len(options.runs) < 2:
        raise UserError("compare takes two runs or more; a single one has its report")
    from drop_ray.report.comparing.common import sides_of
    from drop_ray.report.comparing.sections import comparison_sections
    from drop_ray.report.html import page_of
    from drop_ray.report.markdown import text_of
    from drop_ray.sharing.finished_run import open_run
    from drop_ray.text.console import show

    sections = comparison_sections(sides_of([open_run(place).results for place in options.runs]))
    pages = {".html": page_of(sections, sections[0].title), ".md": text_of(sections)}
    if options.output is None:
        show(pages[".md"].splitlines())
        return 0
    chosen = [options.output.suffix] if options.output.suffix in pages else [*pages]
    for suffix in chosen:
        path = options.output if len(chosen) == 1 else options.output.with_name(options.output.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[suffix], encoding="utf-8")
        print(f"wrote {path}")
    return 0
