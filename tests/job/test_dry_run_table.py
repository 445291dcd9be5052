"""What the dry run prints: readable in 80 columns, hours only for GPUs that are named, and no guess."""

import pytest

from drop_ray.config import EvaluationConfig, ExecutionConfig
from drop_ray.evaluation.tasks.volume import TaskVolume
from drop_ray.job.expected import Expected
from drop_ray.job.stage import Cost, Work
from drop_ray.stages.dry_run_table import dry_run_lines, hardware_lines, token_lines

GPUS = {"num_workers": 2, "gpus_per_worker": 4}
SCORE = Work("score base", 16, 16, Cost(141 * 10**9, 73 * 10**15), "score", Expected(3600, 450, 8))
TASK = Work("evaluate arc_challenge", 27, 27, Cost(flops=4 * 10**18), "evaluate", Expected(7200, 1800, 4))
UNKNOWN = Work("evaluate secret", 2, 2, Cost(note="compute depends on its documents"), "evaluate")


def plain(work):
    return Work(work.name, work.units, work.todo, work.cost, work.stage)


def test_hours_stand_in_columns_of_their_own_and_remarks_below():
    lines = list(dry_run_lines([SCORE, TASK, UNKNOWN], 10**12))
    assert lines[0].split() == ["step", "units", "to", "do", "bytes", "compute", "GPU-h", "hours"]
    assert lines[1].split()[-2:] == ["1.0", "0.12"]
    assert lines[3].split()[-2:] == ["-", "-"]
    assert lines[4] == "evaluate secret: compute depends on its documents"
    assert max(map(len, lines)) <= 80


def test_without_hours_the_table_is_as_it_was():
    lines = list(dry_run_lines([plain(SCORE), UNKNOWN], 10**12))
    assert lines[0].split() == ["step", "units", "to", "do", "bytes", "compute"]
    assert lines[2].endswith("compute depends on its documents")


def test_stages_are_added_up_and_what_is_not_known_is_named():
    lines = list(hardware_lines([SCORE, TASK, UNKNOWN], ExecutionConfig(**GPUS, hardware="h100")))
    assert lines == [
        "",
        "Expected on 8 GPUs (h100: 989 TFLOP/s x 0.4, 3.35 TB/s x 0.7):",
        "  score: 1.0 GPU-hours, 0.12 hours on 8 GPUs",
        "  evaluate: 2.0 GPU-hours, 0.5 hours on 4 GPUs",
        "  in all: 3.0 GPU-hours, 0.62 hours",
        "  and what is not known: evaluate secret",
    ]


def test_a_price_is_that_of_all_gpus_all_along():
    hardware = {"gpu": "h100", "price_per_gpu_hour": 4}
    _, _, *lines = hardware_lines([SCORE, TASK], ExecutionConfig(**GPUS, hardware=hardware))
    assert lines == [
        "  score: 1.0 GPU-hours, 0.12 hours on 8 GPUs, costs 4",
        "  evaluate: 2.0 GPU-hours, 0.5 hours on 4 GPUs, costs 16",
        "  in all: 3.0 GPU-hours, 0.62 hours, costs 20",
        "  costs are of 8 GPUs all along, at 4 per GPU-hour",
    ]


def test_hours_of_auto_are_said_to_be_those_of_one_worker():
    execution = ExecutionConfig(num_workers="auto", gpus_per_worker=1, hardware="h100")
    *_, last = hardware_lines([SCORE], execution)
    assert last.startswith("  execution.num_workers is auto: the hours are those of one worker")


def test_own_values_are_said_to_be_such():
    hardware = {"flops": 5e14, "bandwidth": 2e12, "memory": 6e10}
    _, line, *_ = hardware_lines([SCORE], ExecutionConfig(**GPUS, hardware=hardware))
    assert line == "Expected on 8 GPUs (as stated: 500 TFLOP/s x 0.4, 2 TB/s x 0.7):"


@pytest.mark.parametrize(
    ("execution", "works", "words"),
    [
        (GPUS, [plain(SCORE)], "execution.hardware is not stated, so no hours are forecast; name the GPUs: b200, h200"),
        (GPUS, [Work("score base", 16, 0, stage="score")], ""),
        ({}, [plain(SCORE)], ""),
        ({"hardware": "h100"}, [plain(SCORE)], ""),
    ],
)
def test_nothing_is_guessed_and_cpus_have_no_hours(execution, works, words):
    text = "\n".join(hardware_lines(works, ExecutionConfig(**execution)))
    assert text.strip().startswith(words) if words else not text


def test_tokens_are_those_of_the_backend_and_say_where_they_come_from():
    volumes = {
        "boolq": TaskVolume(3270, 6540, 955_000, 474_000, 475_000, 507_000, 0, "published"),
        "mine": TaskVolume(10, 40, 4000, 3000, 1000, 2000, 0, "requests"),
        "other": None,
    }
    lines = list(token_lines(volumes, EvaluationConfig(backend="vllm")))
    assert lines[1] == "Tokens of each task on one variant (backend vllm, share_prefixes true):"
    assert lines[3].split() == ["boolq", "3270", "6540", "955", "K", "507", "K", "-", "published"]
    assert lines[4].split() == ["mine", "10", "40", "4", "K", "2", "K", "-", "requests"]
    assert lines[5] == "published: by known sizes of the data set, to about 20 %; its data is not here"
    assert len(lines) == 6
    computed = [
        list(token_lines(volumes, EvaluationConfig(share_prefixes=share)))[4].split()[5] for share in (True, False)
    ]
    assert computed == ["1", "3"]
    assert list(token_lines({"other": None}, EvaluationConfig())) == []
