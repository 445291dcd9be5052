"""A rule that no task of the run can decide is refused before anything is computed."""

import pytest

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.job.opening import open_job


def opened(store, metric):
    return open_job(
        parse_config(
            {
                "name": "x",
                "model": {"path": "demo:model", "dtype": "float32"},
                "calibration": {"source": "demo:calibration.jsonl", "num_samples": 8, "seq_len": 64},
                "evaluation": {"include_path": "demo:tasks", "tasks": [metric]},
                "accept": {"metric": metric},
                "store": str(store),
            },
            "f",
        )
    )


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("demo_perplexity", "accept.metric: demo_perplexity measures perplexity, which has no points; take kl, or"),
        ("demo", "accept.metric: demo stands for several tasks; take average, or name one in evaluation.tasks"),
    ],
)
def test_a_task_without_an_accuracy_of_its_own_is_refused(metric, message, tmp_path):
    with pytest.raises(UserError, match=f"^{message}"):
        opened(tmp_path, metric)


def test_a_task_with_an_accuracy_is_taken(tmp_path):
    assert opened(tmp_path, "demo_recall").config.accept.metric == "demo_recall"
