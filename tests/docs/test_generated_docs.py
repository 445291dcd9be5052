"""What pages show of the code is what the code says, and the code says something about everything."""

import pytest
from generated_docs import generated

from drop_ray.config.reference import config_sections


@pytest.mark.parametrize(("path", "text"), generated().items(), ids=lambda value: getattr(value, "name", ""))
def test_a_page_that_is_made_from_the_code_is_current(path, text):
    assert path.read_text() == text, "run make docs"


@pytest.mark.parametrize("section", config_sections(), ids=lambda section: section.path or "file")
def test_every_section_and_field_of_the_config_is_described(section):
    assert section.description
    assert [field.path for field in section.fields if not field.description] == []


def test_the_reference_has_every_section_where_it_stands():
    assert [section.path for section in config_sections()] == [
        "",
        "model",
        "calibration",
        "calibration.sources[]",
        "calibration.compare[]",
        "calibration.compare[].sources[]",
        "scoring",
        "plans[]",
        "plans[].limit",
        "plans[].limit.at",
        "refit[]",
        "refit[].text",
        "refit[].text.sources[]",
        "evaluation",
        "evaluation.tasks[]",
        "evaluation.tasks[].limit",
        "evaluation.perplexity[]",
        "evaluation.perplexity[].sources[]",
        "evaluation.divergence",
        "evaluation.divergence.sources[]",
        "evaluation.screen",
        "evaluation.gates",
        "evaluation.limit",
        "accept",
        "quantization[]",
        "quantization[].text",
        "quantization[].text.sources[]",
        "quantization[fp8]",
        "serving",
        "serving.workloads[]",
        "serving.drafts",
        "tracking",
        "tracking.mlflow",
        "tracking.wandb",
        "execution",
        "execution.hardware",
    ]


@pytest.mark.parametrize(
    ("path", "type", "default"),
    [
        ("model.path", "string", "required"),
        ("name", "string", ""),  # the file's name
        ("calibration.num_samples", "integer from 2", "`256`"),
        ("execution.gpus_per_worker", "number from 0 or `auto`", "`0`"),
        ("execution.cpus_per_worker", "number above 0", "`1`"),
        ("plans[].drop", "integer or list of integer", "`[]`"),
        ("evaluation.limit", "integer from 1 or section", "`null`"),
        ("evaluation.screen.keep", "integer from 1 or `pareto`", "required"),
        (
            "export_formats",
            "list of `dropped`, `plain`, `llm-drop`, `config-only`, `nemotron-nas`",
            "`[dropped, plain]`",
        ),
        ("scoring", "section", ""),
    ],
)
def test_what_the_reference_says_of_a_field(path, type, default):
    fields = {field.path: field for section in config_sections() for field in section.fields}
    assert (fields[path].type, fields[path].default) == (type, default)
