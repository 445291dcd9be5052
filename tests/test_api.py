"""The calls of `import drop_ray`: what they take, what they give, and what they refuse."""

from pathlib import Path

import pytest
import tiny_run

import drop_ray
from drop_ray.errors import UserError
from drop_ray.planning.plans import DropPlan


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.write_inputs(tmp_path_factory.mktemp("inputs"))


def test_a_plan_is_exported_by_name_by_file_and_as_it_is(inputs, tmp_path):
    plan = DropPlan("mine", drop_attn=(1,))
    (tmp_path / "mine.json").write_text(plan.to_json())
    config = tiny_run.config_values(inputs, tmp_path / "store", plans=[{"file": str(tmp_path / "mine.json")}])
    folders = [
        drop_ray.export(config, plan, tmp_path / "as-it-is"),
        drop_ray.export(tiny_run.config_of(inputs, tmp_path / "store"), str(tmp_path / "mine.json"), tmp_path / "file"),
    ]
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]
    inspected = drop_ray.inspect(str(folders[0]))
    assert inspected.lacking.attn == (1,)
    assert drop_ray.load(folders[0]).num_parameters() == inspected.parameters


def test_an_inspection_counts_what_a_plan_leaves(inputs, tmp_path):
    (tmp_path / "plan.json").write_text(DropPlan("plan", drop_attn=(0, 2)).to_json())
    whole, left = (drop_ray.inspect(str(inputs / "model"), plan) for plan in (None, tmp_path / "plan.json"))
    assert left.kv_bytes(num_tokens=7, batch_size=3) * 2 == whole.kv_bytes(num_tokens=7, batch_size=3)
    assert left.parameters < whole.parameters
    assert "plan" in str(left)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nope.yaml", "nope.yaml: no such file"),
        ({"name": "x", "modle": {}}, "config: modle: unknown key; did you mean `model`"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_any_work(config, message):
    for call in (drop_ray.run, drop_ray.plan):
        with pytest.raises(UserError, match=message):
            call(config)


def test_a_plan_that_is_not_there_is_named_with_those_that_are(inputs, tmp_path):
    config = tiny_run.config_of(inputs, tmp_path / "store")
    with pytest.raises(UserError, match="attention-9: no such file, and no plan of the run; its plans: attention-1"):
        drop_ray.export(config, "attention-9", tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_everything_that_is_offered_is_there():
    assert all(callable(getattr(drop_ray, name)) for name in drop_ray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        drop_ray.nope  # noqa: B018
    assert Path(drop_ray.__file__).with_name("py.typed").is_file()
