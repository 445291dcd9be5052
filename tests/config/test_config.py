"""What a user may write wrongly, and that the answer names the field and the remedy."""

import pytest
import yaml

from drop_ray.config import RunConfig, load_config
from drop_ray.errors import UserError
from drop_ray.extensions import METRICS

MINIMAL = {"model": {"path": "m"}, "calibration": {"source": "c.txt"}}


def load(tmp_path, values=None, *overrides, **fields):
    path = tmp_path / "myrun.yaml"
    path.write_text(yaml.safe_dump({**(values or MINIMAL), **fields}))
    return load_config(path, overrides)


def test_a_minimal_config_has_the_papers_calibration_and_the_files_name(tmp_path):
    config = load(tmp_path)
    assert (config.name, config.calibration.num_samples, config.calibration.seq_len) == ("myrun", 256, 2048)


def test_options_of_s3_are_for_what_lies_on_s3_only(tmp_path):
    config = load(tmp_path, model={"path": "s3://bucket/m"}, execution={"store_options": {"anon": True}})
    assert config.s3_options(config.model.path) == {"anon": True, "outage_s": 120}
    assert config.s3_options(config.store) == {}
    assert config.model.location == "s3://bucket/m"


def test_overrides_reach_sections_lists_and_new_fields(tmp_path):
    config = load(
        tmp_path,
        None,
        "calibration.num_samples=8",
        "plans.0.drop=[1, 2]",
        "execution.num_workers=3",
        plans=[{"strategy": "mlp", "drop": 9}],
    )
    assert config.calibration.num_samples == 8
    assert config.plans[0].drop == (1, 2)
    assert config.execution.num_workers == 3


def test_the_resolved_config_can_be_read_again(tmp_path):
    config = load(tmp_path, plans=[{"strategy": "mlp", "drop": 2}], evaluation={"tasks": ["arc"]})
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml())
    assert load_config(again) == config


def test_the_last_revision_is_the_runs_model(tmp_path):
    assert load(tmp_path, model={"path": "m", "revisions": ["a", "b"]}).model.name == "m at b"
    assert load(tmp_path, model={"path": "m", "revision": "a"}).model.name == "m at a"
    assert load(tmp_path).model.name == "m"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modle": {}}, "modle: unknown key; did you mean `model`"),
        ({"scoring": {"microbatch": 2}}, "scoring.microbatch: unknown key; did you mean `micro_batch`"),
        ({"evaluation": {"tasks": [{"nam": "x"}]}}, "evaluation.tasks.*nam: unknown key; did you mean `name`"),
        ({"evaluation": {"batch_size": "auto"}}, "evaluation.batch_size: `auto` is refused"),
        ({"evaluation": {"tasks": ["a", "a"]}}, "`a` is named twice"),
        ({"calibration": {}}, "calibration: give either `source`"),
        ({"calibration": {"source": "a", "token_ids": "b"}}, "calibration: give either `source`"),
        ({"calibration": {"source": "a", "num_samples": 0}}, "calibration.num_samples: "),
        ({"export_formats": ["plain", "plain"]}, "export_formats: name each format once"),
        ({"export_formats": []}, "export_formats: .*at least 1"),
        (
            {"export_formats": ["gguf"]},
            r"export_formats\[0\]: .*'dropped', 'plain', 'llm-drop', 'config-only' or 'nemotron-nas'",
        ),
        ({"plans": [{"strategy": "attention"}]}, r"plans\[0\]: `drop` says how many"),
        ({"plans": [{"strategy": "atention", "drop": 1}]}, r"plans\[0\].strategy: .*'attention'"),
        ({"plans": [{"drop": 1}]}, r"plans\[0\]: give either `strategy` or `file`"),
        ({"plans": [{"strategy": "random", "drop": 1}]}, r"plans\[0\]: `of`"),
        ({"plans": [{"strategy": "reverse", "of": "mlp", "drop": 1, "iterative": 1}]}, "`iterative` goes with"),
        ({"plans": [{"strategy": "block_consecutive", "drop": 2, "iterative": 1}]}, "attention, mlp, joint and block$"),
        (
            {"plans": [{"strategy": "mlp", "of": "mlp", "drop": 1}]},
            "strategies greedy, budget, random and reverse, and only them",
        ),
        ({"plans": [{"strategy": "mlp", "drop": 1, "seed": 3}]}, r"plans\[0\]: `seed` goes with strategy random"),
        ({"plans": [{"file": "p.json", "metric": "cosine"}]}, "`metric` goes with strategies that rank by scores"),
        ({"plans": [{"strategy": "mlp", "drop": [0]}]}, "numbers from 1"),
        ({"scoring": {"metrics": []}}, "scoring.metrics: .*at least 1"),
        ({"scoring": {"metrics": ["cosine", "cosine"]}}, "scoring.metrics: name each metric once"),
        ({"scoring": {"metrics": ["euclidean"]}}, r"scoring.metrics\[0\]: .*'cosine', 'angular'"),
        (
            {"plans": [{"strategy": "mlp", "drop": 1}, {"strategy": "mlp", "drop": 1, "metric": "angular"}]},
            r"plans\[1\].metric: angular is not scored; add it to scoring.metrics",
        ),
        ({"plans": [{"strategy": "random", "of": "mlp", "drop": 1, "metric": "cosine"}]}, "`metric` goes with"),
        ({"calibration": {"dataset": "a/b", "source": "c"}}, "calibration: give either `source`"),
        ({"calibration": {"source": "c", "dataset_split": "test"}}, "calibration: `dataset_split` goes with `dataset`"),
        ({"model": {}}, "model.path: missing"),
        ({"model": {"path": "m", "revision": "a", "revisions": ["a", "b"]}}, "model: give either `revision` or"),
        ({"model": {"path": "m", "revisions": ["a"]}}, "model: `revisions` compares two or more .* give `revision`"),
        ({"model": {"path": "m", "revisions": ["a", "b", "a"]}}, "model: `revisions` names a twice"),
        ({"model": {"path": "m", "revisions": ["a", ""]}}, r"model.revisions\[1\]: "),
        ({"execution": {"store_options": {"anon": True}}}, "execution.store_options are for s3:// only, and neither"),
        ({"serving": {"workloads": [{"prompt": 8}]}}, r"serving.workloads\[0\].output: missing"),
        ({"serving": {"workload": []}}, "serving.workload: unknown key; did you mean `workloads`"),
        ({"serving": {"pairs": 4}}, "serving: `pairs` must be 5 at least if resident; of reload, 3 are enough"),
        ({"serving": {"mode": "reload", "pairs": 2}}, "serving.pairs: .*greater than or equal to 3"),
        ({"serving": {"batch_sizes": [8, 1]}}, "serving: `batch_sizes` must grow"),
        ({"serving": {"batch_sizes": [1, 1]}}, "serving: `batch_sizes` must grow"),
        (
            {"serving": {"workloads": [{"prompt": 8, "output": 8}, {"prompt": 4, "output": 4, "name": "8+8"}]}},
            r"serving: two workloads are called 8\+8; give one a `name`",
        ),
        (
            {"serving": {"workloads": [{"prompt": 60, "output": 8}], "max_model_len": 64}},
            r"serving: workload 60\+8 is longer than `max_model_len`, 64",
        ),
        (
            {"serving": {"workloads": [{"prompt": 4, "output": 4}], "max_model_len": 8}},
            "serving: `max_model_len` must be 32 at least",
        ),
        ({"name": "a/b"}, "name: 'a/b' cannot name a file; use letters"),
        ({"name": "x" * 300}, "name: .* has 300 characters; give a name of at most 120"),
        ({"evaluation": {"tasks": ["../../x"]}}, r"evaluation.tasks\[0\].name: '../../x' cannot name a file"),
        (
            {"evaluation": {"perplexity": [{"name": "../x", "source": "t"}]}},
            r"perplexity\[0\].name: '../x' cannot name",
        ),
        ({"quantization": [{"method": "awq", "name": "../awq"}]}, r"quantization\[0\].name: '../awq' cannot name"),
        ({"model": {"path": "m", "revision": "../../x"}}, "model.revision: '../../x' is not a path inside its folder"),
        ({"model": {"path": "m", "revisions": ["a", "/b"]}}, r"model.revisions\[1\]: '/b' is not a path inside"),
        ({"store": ""}, "store: it is empty; name a folder"),
        ({"store": " "}, "store: it is empty; name a folder"),
        ({"store": "s3://key:secret@bucket/p"}, "store: it is a URL with a user name or password"),
        ({"model": {"path": ""}}, "model.path: it is empty"),
        ({"plans": [{"file": ""}]}, r"plans\[0\].file: it is empty"),
        ({"evaluation": {"include_path": ""}}, "evaluation.include_path: it is empty"),
        ({"execution": {"cache_dir": ""}}, "execution.cache_dir: it is empty"),
        ({"calibration": {"source": "a\x00b"}}, "calibration.source: .* has control characters"),
        ({"evaluation": {"tasks": None}}, r"evaluation.tasks: must be a list, such as \[a, b\]; leave the field out"),
        ({"evaluation": {"tasks": "arc"}}, "evaluation.tasks: must be a list"),
        ({"evaluation": {"tasks": {"name": "arc"}}}, "evaluation.tasks: must be a list"),
        ({"evaluation": {"tasks": [None]}}, r"evaluation.tasks\[0\]: must be a section"),
        ({"plans": None}, "plans: must be a list"),
        ({"plans": [{"strategy": "mlp", "drop": True}]}, r"plans\[0\].drop: must be a list"),
        ({"evaluation": None}, "evaluation: must be a section, with fields of its own below it"),
        ({"execution": {"store_options": []}}, "execution.store_options: must be a section"),
        ({"execution": {"store_outage_s": float("nan")}}, "execution.store_outage_s: .*a finite number"),
        ({"execution": {"start_timeout_s": float("inf")}}, "execution.start_timeout_s: .*a finite number"),
        ({"execution": {"start_timeout_s": "NaN"}}, "execution.start_timeout_s: .*a finite number"),
    ],
)
def test_mistakes_are_named(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, **fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b", "a key that stands twice in one mapping in line 4, column 1"),
        ("1: 2", r"\[1\]: names of fields are text"),
        ("evaluation: {seed: 18446744073709551616}", "a number of more than 64 bits"),
        ("evaluation: {limit: 1:20}", "evaluation.limit: .*a valid integer"),
        ("plans: " + "[" * 5000, "more than 100 levels"),
        ("name: caf\xe9", r"bad.yaml: line 3 is not UTF-8 \(byte 0xE9\); save the file as UTF-8"),
        ("name: !!python/name:os.system ''", "which is not taken in line 3"),
    ],
)
def test_what_yaml_would_take_and_nobody_means(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(f"model: {{path: m}}\ncalibration: {{source: c.txt}}\n{text}\n".encode("latin-1"))
    with pytest.raises(UserError, match=message):
        load_config(path)


def test_dates_and_numbers_with_a_zero_in_front_are_what_stands_there(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "name: 2026-01-02\nmodel: {path: m, revision: 024}\ncalibration: {source: c, num_samples: 024}\n"
        "evaluation: {tasks: [2026-01-02, 012]}\n"
    )
    config = load_config(path, ["calibration.text_field=1:20"])
    assert config.name == "2026-01-02"
    assert config.model.revision == "024"
    assert config.calibration.num_samples == 24
    assert config.calibration.text_field == "1:20"
    assert [task.name for task in config.evaluation.tasks] == ["2026-01-02", "012"]


def test_an_override_changes_one_of_two_places_that_share_an_alias(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL) + "plans: [&a {strategy: mlp, drop: 1}, *a]\n")
    assert [spec.drop for spec in load_config(path, ["plans.1.drop=2"]).plans] == [(1,), (2,)]


@pytest.mark.parametrize(
    "override",
    [
        "calibration",
        "model.path.x=1",
        "plans.0.drop=1",
        "evaluation.tasks.0.name=x",
        "evaluation.tasks.9=x",
        "evaluation.tasks.\u0661=x",
        "name=[",
        f"plans.{'9' * 5000}=1",
    ],
)
def test_overrides_that_fit_nothing_are_named(tmp_path, override):
    with pytest.raises(UserError, match="--set"):
        load(tmp_path, None, override, plans=[], evaluation={"tasks": ["a", "b"]})


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    for text, message in (("a: [", "is not YAML"), ("- a", "a config is a mapping")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(tmp_path / "bad.yaml")


def test_the_schema_lists_the_names_of_metrics_and_strategies():
    definitions = RunConfig.model_json_schema()["$defs"]
    metrics = {"type": "string", "enum": list(METRICS.names)}
    assert metrics["enum"][:2] == ["cosine", "angular"]
    assert definitions["ScoringConfig"]["properties"]["metrics"]["items"] == metrics
    assert definitions["PlanSpec"]["properties"]["metric"]["anyOf"] == [metrics, {"type": "null"}]
    strategies = definitions["PlanSpec"]["properties"]["strategy"]["anyOf"][0]["enum"]
    assert strategies == [
        "attention",
        "mlp",
        "joint",
        "block",
        "block_consecutive",
        "greedy",
        "budget",
        "random",
        "reverse",
    ]
