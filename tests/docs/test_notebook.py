"""The notebook in docs/ runs from its first cell to its last, and still gives what it shows."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python-api.ipynb"


def program(cells):
    """The code cells one after the other; what a cell's last expression gives is printed, as a notebook does."""
    for cell in cells:
        body = ast.parse("".join(cell["source"])).body
        if isinstance(body[-1], ast.Expr) and not ast.unparse(body[-1]).startswith("print("):
            body[-1] = ast.parse(f"print({ast.unparse(body[-1])})").body[0]
        yield "\n".join(map(ast.unparse, body))


def shown(cells):
    """The lines that the notebook has below its cells."""
    for cell in cells:
        for output in cell["outputs"]:
            yield from "".join(output.get("text") or output["data"]["text/plain"]).splitlines()


@pytest.mark.full
def test_the_notebook_runs_and_shows_what_it_gives(tmp_path):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "cells.py").write_text("\n".join(program(cells)))
    paths = [str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    # Plans, tables and sizes: the same on every machine; perplexities and scores may differ in their last digits.
    exact = [line for line in shown(cells) if line.startswith(("attention-", "joint-", "parameters", "KV cache", "["))]
    assert len(exact) >= 7
    assert [line for line in exact if "nan" not in line and line not in printed] == []
