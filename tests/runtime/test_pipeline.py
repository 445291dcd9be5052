"""The whole job on a tiny Llama: the same bytes however it is run, and nothing done twice."""

import json
import re
import shutil
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer
from processes import workers_killed_when
from tiny_run import config_of

from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.job.ledger import read_manifest
from drop_ray.pipeline import run
from drop_ray.stages.forecast import forecast_lines
from drop_ray.store import open_store

PLANS = [
    {"strategy": "attention", "drop": [1, 2]},
    {"strategy": "mlp", "drop": [1]},
    {"strategy": "joint", "drop": [3]},
    {"strategy": "block", "drop": [1]},
    {"strategy": "block_consecutive", "drop": [1, 2]},
    {"strategy": "attention", "drop": [3], "iterative": 2},
]


def units(config):
    return read_manifest(open_store(config.store, config.execution.store_options), f"runs/{config.name}")


def checksums(config, *stages):
    """Checksum of every artifact of the run, by its path; all of them must be there."""
    store = open_store(config.store, config.execution.store_options)
    return {step.path: store.find(step).checksum for stage, _, step in units(config) if stage in stages}


@pytest.fixture(scope="module")
def undisturbed(inputs, local_ray, tmp_path_factory):
    """Checksums of the score tables of one worker with resident layers."""
    config = config_of(inputs, tmp_path_factory.mktemp("undisturbed"), plans=PLANS)
    run(config, "plan")
    return checksums(config, "calibrate", "score")


@pytest.mark.parametrize("num_workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(make_config, undisturbed, num_workers):
    config = make_config(plans=PLANS, execution={"num_workers": num_workers, "cpus_per_worker": 0.5})
    run(config, "plan")
    assert checksums(config, "calibrate", "score") == undisturbed


def test_streamed_layers_give_the_same_bytes_as_resident_ones(make_config, undisturbed):
    execution = {"num_workers": 2, "cpus_per_worker": 0.5, "layers": "streamed", "wave_bytes": 30_000}
    config = make_config(plans=PLANS, execution=execution)
    run(config, "plan")
    assert checksums(config, "calibrate", "score") == undisturbed


@pytest.mark.parametrize("stage", ["score-range", pytest.param("evaluate", marks=pytest.mark.nightly)])
def test_workers_killed_in_the_middle_change_nothing(make_config, undisturbed, caplog, stage):
    config = make_config(plans=PLANS, execution={"num_workers": 2, "cpus_per_worker": 0.5})
    artifacts = Path(config.store) / "artifacts"
    with workers_killed_when(lambda: any(artifacts.glob(f"{stage}-*/commit.json"))):
        run(config, "evaluate")
    assert "worker lost, attempt 1 of 3" in caplog.text
    assert checksums(config, "calibrate", "score") == undisturbed
    calm = make_config(store="calm", plans=PLANS, execution={"num_workers": 1, "cpus_per_worker": 0.5})
    run(calm, "evaluate")
    assert checksums(config, "evaluate") == checksums(calm, "evaluate")


def test_a_run_with_store_and_model_on_s3_gives_the_same_bytes_and_resumes(inputs, local_ray, undisturbed):
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    try:
        bucket = s3fs.S3FileSystem(**options)
        bucket.mkdir("bucket")
        bucket.put(f"{inputs}/model/", "bucket/model/", recursive=True)
        model = {"path": "s3://bucket/model", "dtype": "float32"}
        execution = {"num_workers": 2, "cpus_per_worker": 0.5, "store_options": options}
        config = config_of(inputs, "s3://bucket/runs", model=model, plans=PLANS, execution=execution)
        first = run(config, "plan")
        assert checksums(config, "calibrate", "score") == undisturbed
        assert run(config, "plan").found == first.computed
    finally:
        server.stop()


def test_what_is_done_is_not_done_again(make_config, capsys):
    config = make_config(export="all")
    first = run(config)
    assert (first.found, Path(first.published.report).is_file()) == (0, True)
    again = run(config)
    assert (again.computed, again.found) == (0, first.computed)

    # A unit's artifact deleted: that one is redone, to the same bytes, and nothing else is.
    before = checksums(config, "calibrate", "score", "export", "evaluate")
    for stage, label in (("score", "samples 4 to 5"), ("evaluate", "attention-2 on choose"), ("export", "attention-1")):
        step = next(step for kind, name, step in units(config) if kind == stage and label in name)
        shutil.rmtree(Path(config.store) / step.path)
        redone = run(config)
        assert redone.computed == 1
        assert checksums(config, "calibrate", "score", "export", "evaluate") == before

    # Another plan: its own evaluations only; scores are there, and a plan with equal lists costs nothing.
    more = make_config(export="all", plans=[{"strategy": "attention", "drop": [1, 2, 3]}])
    assert run(more).computed == 3  # checkpoint, task, text
    same = make_config(plans=[{"strategy": "attention", "drop": [3], "iterative": 3}])
    assert run(same).computed == 0


def forecast_of_export(config):
    """Checkpoints in all, and those to do."""
    return next(line.split()[1:3] for line in forecast_lines(config) if line.startswith("export"))


@pytest.mark.nightly
def test_plans_that_drop_blocks_are_exported_plain_too_and_others_never(make_config, caplog):
    caplog.set_level("INFO")
    plans = [{"strategy": "attention", "drop": [1]}, {"strategy": "block", "drop": [1]}]
    config = make_config(plans=plans, export="all", evaluation={"divergence": None})
    assert forecast_of_export(config) == ["3", "3"]
    first = run(config)
    assert list(first.checkpoints) == ["attention-1", "block-1", "block-1 (plain)"]
    assert forecast_of_export(config) == ["3", "0"]
    assert not any("no plain" in line for line in caplog.messages)  # nobody expects one of an attention plan
    plain = json.loads((Path(first.checkpoints["block-1 (plain)"]) / "config.json").read_text())
    assert (plain["model_type"], plain["num_hidden_layers"]) == ("llama", 3)
    report = Path(first.published.report).read_text()
    assert f"dropped: {first.checkpoints['block-1']}, plain: {first.checkpoints['block-1 (plain)']}" in report
    assert run(config).computed == 0
    plain_only = config.model_copy(update={"export_formats": ("plain", "config-only")})
    again = run(plain_only)
    assert (again.computed, list(again.checkpoints)) == (
        2,
        ["attention-1 (config-only)", "block-1 (plain)", "block-1 (config-only)"],
    )


@pytest.mark.full
def test_what_other_library_versions_made_is_named_and_taken_only_on_request(make_config, caplog, monkeypatch):
    config = make_config()
    first = run(config, "evaluate")
    monkeypatch.setattr("drop_ray.store.versions._version", lambda library: "99.0")
    reused = run(config, "evaluate", reuse=True)
    assert (reused.computed, reused.found) == (0, first.computed)
    caplog.clear()
    assert run(config, "score").computed > 0
    assert re.search(r"score: 10 of 10 units were done with other libraries \(torch .*; run with --reuse", caplog.text)


def corrupt_by_truncation(path):
    path.write_bytes(path.read_bytes()[:-1])


def corrupt_by_flipping(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "corrupt", [corrupt_by_truncation, pytest.param(corrupt_by_flipping, marks=pytest.mark.nightly)]
)
def test_a_corrupt_artifact_is_named_and_redone(make_config, caplog, corrupt):
    config = make_config()
    run(config, "evaluate")
    before = checksums(config, "score", "evaluate")
    victims = []
    for stage, label in (("score", "samples 4 to 5"), ("score", "scores base"), ("evaluate", "base on choose")):
        step = next(step for kind, name, step in units(config) if kind == stage and label in name)
        victims.append(next((Path(config.store) / step.path).glob("*/*.parquet")))
        corrupt(victims[-1])
    caplog.clear()
    assert run(config, "evaluate").computed == 3
    for path in victims:
        assert f"is corrupt and will be redone: {path}" in caplog.text
    assert checksums(config, "score", "evaluate") == before


def test_an_error_in_a_worker_stops_the_run_names_the_unit_and_keeps_what_was_done(make_config):
    config = make_config(tasks=("choose", "broken"))
    with pytest.raises(WorkerFailedError, match=r"(?s)on broken failed: .*nonexistent.*log "):
        run(config, "evaluate")
    assert run(make_config(tasks=()), "score").computed == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"calibration": {"source": "TEXT", "num_samples": 9999, "seq_len": 32}},
            "the text gives [0-9]+ samples of 32",
        ),
        ({"calibration": {"source": "TEXT", "seq_len": 512}}, "calibration.seq_len: 512 is more than the model's 256"),
        (
            {"calibration": {"source": "nowhere.txt", "seq_len": 32}},
            r"source: nowhere.txt \(/.*\) is not a file",
        ),
        (
            {"evaluation": {"perplexity": [{"source": "TEXT", "seq_len": 32, "num_samples": 9999}]}},
            r"evaluation.perplexity \(perplexity\).source: the text gives [0-9]+ samples of 32",
        ),
        ({"model": {"path": "no/such/model"}}, "neither a folder, nor a URL"),
        ({"plans": [{"strategy": "mlp", "drop": [5]}]}, r"plans\[0\].drop: 5 is more than the model's 4 MLPs"),
        ({"tasks": ["chose"]}, "evaluation.tasks: .*chose.*choose"),
        ({"export": ["attention-9"]}, "export: no plan is called attention-9; plans: attention-1"),
        ({"store": "FILE"}, "store: .*not writable"),
    ],
)
def test_bad_input_is_refused_before_work_and_leaves_nothing_half_done(make_config, inputs, tmp_path, fields, message):
    (tmp_path / "file").write_text("")
    names = {"TEXT": str(inputs / "text.txt"), "FILE": str(tmp_path / "file" / "store")}
    text = json.dumps(fields)
    for name, path in names.items():
        text = text.replace(f'"{name}"', json.dumps(path))
    fields = json.loads(text)
    config = make_config(**fields)
    with pytest.raises(UserError, match=message):
        run(config)
    assert not list(tmp_path.glob("store/artifacts/*"))
