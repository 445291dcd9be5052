"""docs/architecture.md says what is touched to add one more: the code is searched for an example of each."""

import ast
import re
from pathlib import Path

import pytest

import drop_ray

PACKAGE = Path(drop_ray.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
FILES = re.compile(r"`([a-z_/0-9]+(?:/|\.py))`")


def code(path):
    """A file without docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return ast.unparse(tree)


CODE = {path.relative_to(PACKAGE).as_posix(): code(path) for path in sorted(PACKAGE.rglob("*.py"))}


def rows():
    """(what is added, example, paths) of the table."""
    table = PAGE[PAGE.index("| one more | example |") :].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        added, example, *places = (cell.strip() for cell in line.strip("|").split("|"))
        yield added, example.strip("`"), [found for place in places for found in FILES.findall(place)]


@pytest.mark.parametrize(("added", "example", "places"), list(rows()))
def test_an_example_is_named_where_the_table_says_and_nowhere_else(added, example, places):
    named = {name for name, text in CODE.items() if re.search(rf"(?<![A-Za-z]){example}(?![A-Za-z])", text)}
    assert {name for name in named if not name.startswith(tuple(places))} == set(), added
    assert all((PACKAGE / place).exists() for place in places), added


def levels():
    """Packages and files of the table of packages, from the top down."""
    table = PAGE[PAGE.index("| package | what is in it |") :].split("\n\n")[0].splitlines()[2:]
    return {re.search(r"`([a-z]+)", line)[1]: level for level, line in enumerate(table)}


def imported(text):
    """What of drop_ray a file imports, anywhere in it but for type checkers alone."""
    tree = ast.parse(text)
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    for_types = {id(inner) for node in guarded for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("drop_ray") and id(node) not in for_types:
            yield from [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]


def test_every_package_stands_in_the_table_of_packages():
    packages = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert packages - {"demo", "__init__", "__main__"} == levels().keys()


def test_no_package_imports_one_above_it():
    known = levels()
    upwards = {
        (path, target)
        for path, text in CODE.items()
        if (own := path.split("/")[0].removesuffix(".py")) in known
        for target in imported(text)
        if known.get(target, len(known)) < known[own]
    }
    assert upwards == set()
