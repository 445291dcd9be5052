"""`drop-ray schema`: an editor's check agrees with that of `load_config`."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from drop_ray.cli import main

CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))


@pytest.fixture
def validator(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_fits_the_schema_without_a_name_of_its_own(validator, path):
    values = yaml.safe_load(path.read_text())
    values.pop("name", None)
    validator.validate(values)


def smallest(**fields):
    return {"model": {"path": "m"}, "calibration": {"source": "t.txt"}, **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {"plans": [{"strategy": "attention", "drop": 4}]},  # one number instead of a list
        {"evaluation": {"tasks": ["boolq", {"name": "piqa"}]}},  # names instead of sections
        {"execution": {"gpus_per_worker": "auto"}},
        {"export": ["attention-4"]},
    ],
)
def test_the_short_forms_of_the_file_fit_too(validator, fields):
    validator.validate(smallest(**fields))


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"modle": 1}, []),
        ({"plans": [{"strategy": "atention", "drop": 4}]}, ["plans", 0, "strategy"]),
        ({"calibration": {"source": "t.txt", "num_samples": 1}}, ["calibration", "num_samples"]),
        ({"model": {}}, ["model"]),
    ],
)
def test_what_does_not_fit_is_marked_where_it_stands(validator, fields, at):
    assert [list(error.absolute_path) for error in validator.iter_errors(smallest(**fields))] == [at]
