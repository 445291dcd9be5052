"""What a model card says of results: the hub's entries, and the table beside the base."""

import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCardData
from serving_results import served_results

from drop_ray.report.card_results import TaskData, evaluations_for_the_hub, results_text, task_data_of
from drop_ray.report.gate_rows import VerdictRow


def test_every_metric_is_an_entry_with_its_data_set_and_what_it_is_of():
    results = served_results()
    rows = [row for row in results.evaluations if row.variant == results.variants[1].name]
    data = {row.task: TaskData("org/set", "main", "test") for row in rows}
    found = evaluations_for_the_hub(results, results.variants[1].name, data)
    assert [(one.metric_type, one.metric_value) for one in found] == [(row.metric, row.value) for row in rows]
    assert {(one.dataset_type, one.dataset_config, one.dataset_split) for one in found} == {("org/set", "main", "test")}
    first = {"num_fewshot": rows[0].num_fewshot, "documents": rows[0].num_documents, "stderr": rows[0].stderr}
    assert found[0].metric_args == {name: value for name, value in first.items() if value is not None}
    # huggingface_hub reads back what it writes of them.
    data = ModelCardData(model_name="m", eval_results=found).to_dict()
    assert len(ModelCardData(**data).eval_results) == len(found)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("org/set", "org/set"),
        ("squad", "squad"),
        ("json", "quiz"),
        ("/data/x", "quiz"),
        ("./x", "quiz"),
        ("a/b/c", "quiz"),
    ],
)
def test_a_data_set_of_files_is_called_by_its_task(path, named):
    results = served_results()
    rows = [replace(row, task="quiz") for row in results.evaluations[:1]]
    results = replace(results, evaluations=rows, documents=[])
    (found,) = evaluations_for_the_hub(results, rows[0].variant, {"quiz": TaskData(path, None, None)})
    assert (found.dataset_type, found.dataset_name) == (named, "quiz")
    assert evaluations_for_the_hub(results, rows[0].variant, {})[0].dataset_type == "quiz"


def test_what_is_no_number_is_no_entry():
    results = served_results()
    name = results.evaluations[0].variant
    lost = [replace(row, value=math.nan) for row in results.evaluations]
    assert evaluations_for_the_hub(replace(results, evaluations=lost), name, {}) == []


def test_the_task_s_data_is_read_from_lm_eval_s_file():
    configs = {"quiz": {"dataset_path": "org/set", "dataset_name": None, "validation_split": "dev"}}
    assert task_data_of({"configs": configs}) == {"quiz": TaskData("org/set", None, "dev")}
    assert task_data_of({}) == {}


def test_the_text_has_the_base_beside_verdict_and_speed():
    results = served_results()
    name = results.variants[1].name
    results = replace(results, verdicts=[VerdictRow(name, "accept", "all gates pass", 0.1, 0.95)])
    text = results_text(results, name)
    assert "this model" in text
    assert "the base" in text
    assert "Damage gates: accept: all gates pass." in text
    assert "Output tokens per second, " in text
    assert "95 % interval [" in text
    assert results_text(replace(results, evaluations=[], documents=[], serving=[], verdicts=[]), name) == (
        "Nothing was evaluated."
    )
