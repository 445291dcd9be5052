"""The version stands in drop_ray/__init__.py; what has to repeat it, such as the tag of an image, follows."""

import re
import tomllib
from pathlib import Path

import drop_ray

ROOT = Path(__file__).parents[2]


def test_the_package_takes_its_version_from_the_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "drop_ray.__version__"}


def test_tags_of_images_follow():
    files = [path for folder in ("cluster", "manifests", "docs") for path in (ROOT / folder).rglob("*")]
    text = "\n".join(path.read_text() for path in files if path.is_file() and path.suffix != ".png")
    tags = re.findall(r"(?:drop-ray:|newTag: )(\d[\w.]*)-(?:gpu|cpu)\b", text)
    assert len(tags) > 5
    assert {*tags} == {drop_ray.__version__}


def test_the_changelog_knows_the_version():
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == drop_ray.__version__
