"""Names that packages add by entry points: found and loaded lazily, and what is wrong with a package is said."""

from pathlib import Path

import pytest

from drop_ray.errors import UserError
from drop_ray.extensions import METRICS, STRATEGIES, Registry
from drop_ray.planning.modules import PLURALS

OWN = {"own": "fractions:Fraction"}
GUIDE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
TOY = Path(__file__).parent / "support" / "toy_extension"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package of one module, as pip would leave it: its file, and the entry points of its metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package, entry_points, source=""):
        (tmp_path / f"{package}.py").write_text(source)
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {package}:{attribute}" for name, attribute in entry_points.items())
        (metadata / "entry_points.txt").write_text(f"[drop_ray.things]\n{lines}\n")

    return install


def registry():
    """A new one: what is installed is looked up once."""
    return Registry("drop_ray.things", "thing", "numbers:Number", OWN)


def test_the_projects_own_come_first_and_then_those_of_packages_by_name(install):
    install("thing_b", {"zeta": "VALUE", "beta": "VALUE"}, "VALUE = 1")
    install("thing_a", {"gamma": "VALUE"}, "VALUE = 2")
    things = registry()
    assert things.names == ("own", "beta", "gamma", "zeta")
    assert (things.load("zeta"), things.load("gamma")) == (1, 2)
    assert [things.package(name) for name in things.names] == [None, "thing_b", "thing_a", "thing_b"]


def test_nothing_is_imported_before_it_is_asked_for(install):
    install("thing_broken", {"beta": "VALUE"}, "raise RuntimeError('needs a newer drop_ray')")
    things = registry()
    assert things.names == ("own", "beta")
    assert things.package("beta") == "thing_broken"
    broken = "thing beta cannot be loaded from thing_broken:VALUE of package thing_broken: RuntimeError: needs a newer"
    with pytest.raises(UserError, match=broken):
        things.load("beta")


def test_an_unknown_name_is_answered_with_those_there_are(install):
    install("thing_a", {"beta": "VALUE"})
    for ask in (registry().load, registry().package):
        with pytest.raises(UserError, match="there is no thing gamma; there are: own, beta"):
            ask("gamma")


def test_what_a_package_promises_but_does_not_have_is_named(install):
    install("thing_empty", {"beta": "VALUE"})
    with pytest.raises(UserError, match="thing beta cannot be loaded from thing_empty:VALUE .*no attribute 'VALUE'"):
        registry().load("beta")


def test_what_is_no_instance_of_the_base_class_is_refused(install):
    install("thing_text", {"beta": "VALUE"}, "VALUE = 'text'")
    with pytest.raises(UserError, match="thing beta: thing_text:VALUE .* is no instance of numbers.Number"):
        registry().load("beta")


def test_two_packages_with_one_name_are_both_named(install):
    install("thing_a", {"beta": "VALUE"})
    install("thing_b", {"beta": "VALUE"})
    with pytest.raises(UserError, match="packages thing_[ab] and thing_[ab] both have a thing beta; uninstall thing_"):
        _ = registry().names


def test_a_package_cannot_take_one_of_the_projects_own_names(install):
    install("thing_a", {"own": "VALUE"})
    with pytest.raises(UserError, match="packages drop_ray and thing_a both have a thing own; uninstall thing_a"):
        _ = registry().names


@pytest.mark.parametrize("name", ["../beta", "with-hyphen", "Beta", "2nd"])
def test_a_name_that_is_no_part_of_a_file_name_is_refused(install, name):
    install("thing_a", {name: "VALUE"})
    with pytest.raises(UserError, match=f"package thing_a calls a thing '{name}'; a name has small letters"):
        _ = registry().names


@pytest.mark.parametrize("things", [METRICS, STRATEGIES], ids=lambda things: things.noun)
def test_every_line_of_the_projects_own_leads_to_one_of_its_kind(things):
    module, _, name = things.base.partition(":")
    for each in things.own:
        bases = [f"{base.__module__}:{base.__qualname__}" for base in type(things.load(each)).__mro__]
        assert f"{module}:{name}" in bases


def rows(heading):
    """Of the guide's table that begins with this heading, as lists of cells."""
    lines = iter(GUIDE.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    next(lines)
    found = []
    while (line := next(lines)).startswith("|"):
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_guide_lists_the_metrics_as_they_are():
    metrics = {name: METRICS.load(name) for name in METRICS.own}
    assert rows("metric | bounds") == [
        [f"`{name}`", "{:g} to {:g}".format(*metric.bounds), metric.source] for name, metric in metrics.items()
    ]


def test_the_guide_lists_the_strategies_as_they_are():
    rules = {name: STRATEGIES.load(name) for name in STRATEGIES.own}
    keys = {
        name: {
            "of": rule.of is None,
            "iterative": rule.iterative,
            "metric": rule.uses_scores,
            "seed": rule.seeded,
            "objective": rule.objectives,
            "width": rule.has_width,
            "on": rule.iterative or (rule.searches and not rule.limited),
            "limit": rule.limited,
            "swap_rounds": rule.limited,
            "quantized": rule.limited,
        }
        for name, rule in rules.items()
    }
    assert rows("strategy | drops") == [
        [
            f"`{name}`",
            PLURALS.get(rule.of, "what `of` says"),
            ", ".join(f"`{key}`" for key, goes in keys[name].items() if goes),
        ]
        for name, rule in rules.items()
    ]


@pytest.mark.parametrize(
    "file",
    [
        "pyproject.toml",
        "drop_ray_toy/relative_change.py",
        "drop_ray_toy/inner.py",
        "drop_ray_toy/window.py",
        "drop_ray_toy/scale_mlp.py",
        "drop_ray_toy/changed.py",
    ],
)
def test_the_guide_has_the_toy_packages_files_as_they_are(file):
    _, _, rest = GUIDE.partition(f"`{file}`:\n\n```")
    language, _, text = rest.partition("\n")
    assert language in ("toml", "python")
    assert text.startswith((TOY / file).read_text() + "```\n")
