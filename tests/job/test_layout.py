"""GPUs that a worker holds are GPUs that it computes on, and all that the config names are held."""

import pytest
from pydantic import ValidationError

from drop_ray.config import ExecutionConfig
from drop_ray.errors import UserError
from drop_ray.job.layout import Layout, layout_of
from drop_ray.job.units import WorkerRequest

GB = 10**9
GPU = 80 * GB
LLAMA_70B = 141 * GB


def layout(request=None, **execution):
    return layout_of(ExecutionConfig(**execution), request or WorkerRequest(), GPU)


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        ({}, Layout(1, 0, 1)),
        ({"num_workers": 6, "cpus_per_worker": 2}, Layout(6, 0, 2)),
        ({"num_workers": 8, "gpus_per_worker": 1}, Layout(8, 1, 1)),
        ({"num_workers": 2, "gpus_per_worker": 4}, Layout(8, 1, 0.25)),
        ({"num_workers": 2, "gpus_per_worker": 4, "cpus_per_worker": 16}, Layout(8, 1, 4)),
        ({"num_workers": 16, "gpus_per_worker": 0.5}, Layout(16, 0.5, 1)),
        ({"num_workers": 8, "gpus_per_worker": "auto"}, Layout(8, 1, 1)),
        ({"num_workers": "auto"}, Layout(1, 0, 1)),
        ({"num_workers": "auto", "gpus_per_worker": 4}, Layout(4, 1, 0.25)),
    ],
)
def test_a_worker_that_computes_on_one_gpu_holds_one(execution, expected):
    assert layout(**execution) == expected
    assert ExecutionConfig(**execution).num_devices == expected.num_workers


@pytest.mark.parametrize(
    ("model_bytes", "execution", "expected"),
    [
        (16 * GB, {"num_workers": 2, "gpus_per_worker": 4}, Layout(8, 1, 0.25)),
        (100 * GB, {"num_workers": 2, "gpus_per_worker": 4}, Layout(4, 2, 0.5)),
        (LLAMA_70B, {"num_workers": 2, "gpus_per_worker": 4}, Layout(2, 4, 1)),
        (LLAMA_70B, {"num_workers": 1, "gpus_per_worker": 8}, Layout(2, 4, 0.5)),
        (LLAMA_70B, {"num_workers": 2, "gpus_per_worker": "auto"}, Layout(2, 3, 1)),
        (16 * GB, {"num_workers": 4, "gpus_per_worker": 0.5}, Layout(4, 0.5, 1)),
        (LLAMA_70B, {"num_workers": 4}, Layout(4, 0, 1)),
    ],
)
def test_a_worker_that_holds_a_model_has_the_gpus_that_it_takes(model_bytes, execution, expected):
    assert layout(WorkerRequest(model_bytes=model_bytes), **execution) == expected


@pytest.mark.parametrize(
    ("request_", "execution", "expected"),
    [
        (WorkerRequest(num_gpus=4), {"num_workers": 2, "gpus_per_worker": 4}, Layout(2, 4, 1)),
        (WorkerRequest(num_gpus=4), {"num_workers": 8, "gpus_per_worker": 1}, Layout(2, 4, 1)),
        (WorkerRequest(num_gpus=2), {"num_workers": 2, "gpus_per_worker": 4}, Layout(4, 2, 0.5)),
        (WorkerRequest(num_gpus=4), {"num_workers": 1, "gpus_per_worker": 1}, Layout(1, 4, 1)),
        (WorkerRequest(num_gpus=1), {"num_workers": 16, "gpus_per_worker": 0.5}, Layout(8, 1, 1)),
        (WorkerRequest(num_gpus=4), {"num_workers": 3, "gpus_per_worker": "auto"}, Layout(3, 4, 1)),
        (WorkerRequest(num_workers=1, num_gpus=0), {"num_workers": 8}, Layout(1, 0, 1)),
        (WorkerRequest(num_gpus=0), {"num_workers": 8, "gpus_per_worker": 1}, Layout(8, 0, 1)),
    ],
)
def test_engines_share_the_gpus_of_all_workers(request_, execution, expected):
    assert layout(request_, **execution) == expected


@pytest.mark.parametrize("groups", [1, 2, 3, 5])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5])
def test_no_layout_has_more_gpus_than_the_config_and_every_worker_holds_its_model(groups, group, needed):
    request = WorkerRequest(model_bytes=needed * 60 * GB)
    if needed > group:
        with pytest.raises(UserError, match=f"needs {needed} GPUs of .* on one node, a worker has {group}"):
            layout(request, num_workers=groups, gpus_per_worker=group)
        return
    found = layout(request, num_workers=groups, gpus_per_worker=group)
    assert found.gpus >= max(needed, 1)
    # Another worker would not fit into what a group has left.
    assert groups * (group - max(needed, 1)) < found.num_gpus <= groups * group
    assert found.num_workers * found.cpus == pytest.approx(groups)


def test_a_part_of_a_gpu_cannot_be_added_to_whole_ones():
    with pytest.raises(ValidationError, match="above 1 it is a whole number of GPUs, not 1.5"):
        ExecutionConfig(gpus_per_worker=1.5)
