"""A run of a model of the paper beside the paper's figures: exact rows, the model, what one side lacks, bad input."""

from dataclasses import replace

import pytest
from quantized_results import quantized_results
from serving_results import served_results

from drop_ray.cli import main
from drop_ray.errors import UserError
from drop_ray.report.paper import DropListRow, PaperRow, drop_list_rows, figure_rows, model_of, task_notes
from drop_ray.report.paper_figures import MODELS
from drop_ray.report.reading_tables import rows_of_table
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, Quantization, ScoreRow, ServingRow, VariantRow
from drop_ray.report.tables import TOPICS, parquet_files, topic_table

MISTRAL, LLAMA_2_70B = model_of("mistralai/Mistral-7B-v0.1", 32), model_of("x", None, "llama-2-70b")
FACTS = RunFacts("r", "mistralai/Mistral-7B-v0.1", "id", 32, "bfloat16", "c", "now", {}, "")
AWQ = Quantization("attention-4", "awq", "awq", 4, 128, False, False)


def variant(name: str, strategy: str = "base", dropped: int = 0, attn=(), **more) -> VariantRow:
    return VariantRow(
        name, strategy, "cosine" if dropped else None, dropped, attn, (), 90, 10, 8, 8, None, 2_000, **more
    )


def evaluation(name: str, task: str, value: float, **more) -> EvaluationRow:
    return replace(EvaluationRow(name, task, "acc", value, 0.01, True, 4, 0, True), **more)


def documents(name: str, values: list[float]) -> list[DocumentRow]:
    return [DocumentRow(name, "boolq", "acc", number, value) for number, value in enumerate(values)]


VARIANTS = [
    variant("base"),
    variant("attention-4", "attention", 4, (25, 26, 24, 20)),
    variant("attention-4-awq", "attention", 4, (25, 26, 24, 20), quantization=AWQ, changes=("awq",)),
    variant("joint-3", "joint", 3),
]
SPEED = ServingRow(
    *("attention-4", "2048+128", 2048, 128, "vllm", "resident", False, "equal_batch", 8, 8),
    *("output_tokens_per_s", 100.0, 110.0, 1.11, 1.09, 1.13, 5, 1.1),
)
RUN = Results(
    FACTS,
    [ScoreRow("base", "attention", 31, 1, "cosine", 0.1, 0.01)],
    VARIANTS,
    [
        *(evaluation(one.name, "boolq", 0.70 - 0.01 * number) for number, one in enumerate(VARIANTS)),
        *(evaluation(one.name, "own_task", 0.1) for one in VARIANTS),
    ],
    [*documents("base", [1, 1, 1, 0]), *documents("attention-4", [1, 1, 0, 0])],
    [],
    serving=[SPEED],
)


def rows_of(results: Results, plan: str) -> list[PaperRow]:
    return [row for row in figure_rows(results, MISTRAL) if row.plan == plan]


def test_figures_are_those_published() -> None:
    """Copied by hand from the paper's tables."""
    found = {
        (model.name, one.plan, one.num_tasks): (one.average, one.speedup, one.gamma)
        for model in MODELS
        for one in model.figures
    }
    assert found["Llama-2-13B", "base", None] == (68.2, None, None)
    assert found["Llama-2-13B", "attention-4", None] == (68.5, 1.05, -0.05)
    assert found["Llama-2-13B", "attention-4-awq", 4] == (65.5, None, None)
    assert found["Mistral-7B", "mlp-8", None] == (53.4, 1.06, 2.82)
    assert found["Mistral-7B", "attention-12", None] == (67.3, 1.40, 0.08)
    assert found["Llama-2-70B", "block-32", 8] == (49.3, 1.67, 0.37)
    assert found["Llama-3-70B", "attention-48", 4] == (71.0, 1.55, 0.07)
    assert found["Llama-3-8B", "attention-20", 4] == (38.6, 1.52, None)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_gamma_follows_from_average_and_speedup_as_far_as_they_are_rounded(model) -> None:
    base = model.figures[0].average
    for one in model.figures:
        if one.gamma is None or (model.name, one.plan) == ("Llama-3-70B", "attention-40"):
            continue
        ends = [
            (base - one.average + lost) / (100 * (one.speedup - 1 + gain))
            for lost in (-0.1, 0.1)
            for gain in (-0.005, 0.005)
        ]
        assert min(ends) - 0.011 <= one.gamma <= max(ends) + 0.011, one


def test_a_plan_has_average_change_speedup_and_gamma() -> None:
    average, change, speedup, gamma, *of_four = rows_of(RUN, "attention-4")
    half = 1.959964
    assert (average.figure, average.paper, average.ours) == ("average", 69.9, pytest.approx(69.0))
    assert (average.low, average.high) == pytest.approx((69 - half, 69 + half))
    assert (average.difference, average.inside) == (pytest.approx(-0.9), True)
    assert (change.figure, change.paper, change.ours) == ("change", pytest.approx(-0.4), -25.0)
    assert (speedup.place, speedup.paper, speedup.ours) == ("2048+128 x8", 1.10, 1.11)
    assert (speedup.low, speedup.high, speedup.inside) == (1.09, 1.13, True)
    assert (gamma.figure, gamma.paper, gamma.ours) == ("gamma", 0.04, pytest.approx(25 / 11))
    assert [(row.figure, row.paper, row.num_tasks) for row in of_four] == [
        ("average", 66.6, 4),
        ("change", pytest.approx(-0.2), 4),
    ]


def test_a_value_outside_of_the_interval_is_outside() -> None:
    assert PaperRow("p", "average", paper=70.0, ours=65.0, low=64.0, high=66.0).inside is False
    assert PaperRow("p", "average", paper=70.0, ours=65.0).inside is None


def test_what_one_side_lacks_has_rows() -> None:
    missing = rows_of(RUN, "block-8")
    assert [(row.figure, row.paper, row.why) for row in missing] == [
        ("average", 58.6, "not in the run"),
        ("change", pytest.approx(-11.7), "not in the run"),
        ("speedup", 1.32, "not in the run"),
        ("gamma", 0.37, "not in the run"),
    ]
    average, change = rows_of(RUN, "joint-3")
    assert (average.paper, average.ours, average.inside) == (None, pytest.approx(67.0), None)
    assert change.why == "no documents shared"
    assert [row.why for row in rows_of(replace(RUN, serving=[]), "attention-4")[2:4]] == ["not benchmarked"] * 2


def test_quantized_variants_are_compared_with_the_same_method_at_four_bits_only() -> None:
    assert rows_of(RUN, "attention-4-awq")[0].paper == 66.3
    for other in (replace(AWQ, bits=8), replace(AWQ, method="other")):
        run = replace(RUN, variants=[*VARIANTS[:2], replace(VARIANTS[2], quantization=other), VARIANTS[3]])
        papers = [row.paper for row in rows_of(run, "attention-4-awq") if row.figure == "average"]
        assert papers == [66.3, None]  # the paper's plan, which the run lacks, and the run's own


def test_drop_lists_overlap() -> None:
    lists = {row.plan: row for row in drop_list_rows(RUN, MISTRAL)}
    assert lists["attention-4"] == DropListRow("attention-4", (25, 26, 24, 22), (25, 26, 24, 20))
    assert lists["attention-4"].shared == 3
    assert lists["mlp-4"].ours is None
    assert lists["mlp-4"].shared == 0


def test_other_tasks_metrics_and_examples_are_said() -> None:
    others = [evaluation("base", "piqa", 0.5), evaluation("base", "winogrande", 0.5, num_fewshot=0)]
    notes = [*task_notes(replace(RUN, evaluations=[*RUN.evaluations, *others]))]
    assert notes == [
        "piqa: judged by acc here, by acc_norm in the paper",
        "winogrande: 0 examples before a question here, 5 in the paper",
        "not evaluated here, of the paper's tasks: rte, openbookqa, mmlu, gsm8k, hellaswag, arc_challenge",
        "not in the paper, so in no average here: own_task",
    ]


@pytest.mark.parametrize(
    ("name", "layers", "found"),
    [
        ("meta-llama/Llama-2-13b-hf", 40, "Llama-2-13B"),
        ("/models/Meta-Llama-3-8B", None, "Llama-3-8B"),
        ("s3://b/Llama-3-70B/snapshot", 80, "Llama-3-70B"),
    ],
)
def test_a_model_is_known_by_its_name(name, layers, found) -> None:
    assert model_of(name, layers).name == found


@pytest.mark.parametrize(
    "name", ["Llama-3.1-8B", "Llama-2-13b-chat-hf", "Mixtral-8x7B", "Mistral-7B-Instruct-v0.2", "m"]
)
def test_other_models_are_refused_with_the_known_ones(name) -> None:
    with pytest.raises(UserError, match="not one of the paper's, by its name; --model says which: Llama-2-13B, Mis"):
        model_of(name, 32)


def test_a_model_of_other_depth_is_refused_unless_it_is_said() -> None:
    with pytest.raises(UserError, match="has 12 layers, Mistral-7B has 32"):
        model_of("Mistral-7B", 12)
    assert model_of("Mistral-7B", 12, "mistral-7b") is MISTRAL
    with pytest.raises(UserError, match="--model gpt: not a model whose published figures are known"):
        model_of("Mistral-7B", 32, "gpt")


@pytest.mark.parametrize("results", [served_results(), quantized_results(), RUN], ids=["served", "quantized", "paper"])
@pytest.mark.parametrize("topic", ["variants", "evaluations", "documents", "serving", "scores"])
def test_tables_are_read_back_as_the_rows_that_were_written(results, topic) -> None:
    row, rows = TOPICS[topic]
    assert rows_of_table(row, topic_table(topic, results)) == [*rows(results)]


def written(tmp_path, results: Results, without: str = ""):
    """A config whose store has the tables of a run."""
    tables = tmp_path / "store/runs/r/tables"
    tables.mkdir(parents=True)
    for topic, data in parquet_files(results):
        if topic != without:
            (tables / f"{topic}.parquet").write_bytes(data)
    config = tmp_path / "r.yaml"
    store = tmp_path / "store"
    config.write_text(f"{{model: {{path: org/Mistral-7B-v0.1}}, store: {store}, calibration: {{source: c.txt}}}}")
    return str(config)


def test_the_command_prints_all_within_80_columns(tmp_path, capsys) -> None:
    assert main(["compare-paper", written(tmp_path, RUN)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[*filter(None, map(str.strip, line.split("  ")))] for line in lines]
    assert ["attention-4", "average", "69.9", "69.00 (67.04 to 70.96)", "-0.90", "yes"] in cells
    assert ["attention-4", "speedup", "1.10", "1.11 (1.09 to 1.13)", "+0.01", "yes"] in cells
    assert ["block-8", "gamma", "0.37", "not in the run", "-", "-"] in cells
    assert ["attention-4", "25 26 24 22", "25 26 24 20", "3 of 4"] in cells
    assert ["joint-3", "boolq", "acc", "0", "-", "67.00 (65.04 to 68.96)"] in cells
    assert "Our averages are over: boolq." in lines
    assert "They and gamma are of 2048+128 x8: prompt + output tokens x requests at a time." in lines
    in_tables = [line for line, of_line in zip(lines, cells, strict=True) if len(of_line) > 2]
    assert max(map(len, in_tables)) <= 80


def test_markdown_has_the_same_rows(tmp_path, capsys) -> None:
    assert main(["compare-paper", written(tmp_path, RUN), "--markdown"]) == 0
    rows = [[*map(str.strip, line.split("|")[1:-1])] for line in capsys.readouterr().out.splitlines()]
    assert ["attention-4", "average", "69.9", "69.00 (67.04 to 70.96)", "-0.90", "yes"] in rows


@pytest.mark.parametrize(
    ("without", "fault"), [("variants", "the run r is not finished"), ("evaluations", "the run r is not evaluated")]
)
def test_a_run_that_is_not_done_is_one_line(tmp_path, capsys, without, fault) -> None:
    assert main(["compare-paper", written(tmp_path, RUN, without)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"drop-ray: {fault}")
    assert error.count("\n") == 1
