"""What a submitted job gets of the working directory, and what is refused before anything is uploaded."""

from pathlib import Path

import pytest

from drop_ray.config import parse_config
from drop_ray.errors import UserError
from drop_ray.runtime import packaging
from drop_ray.runtime.packaging import check_config_file, check_paths, make_package

STORE = "s3://bucket/prefix"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, *names, size=1):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def names(package):
    return sorted(path.relative_to(package.folder).as_posix() for path in package.files)


def config(**fields):
    values = {
        "name": "run",
        "model": {"path": "organisation/model"},
        "calibration": {"source": "text.txt"},
        "store": STORE,
        **fields,
    }
    return parse_config(values, "test")


def test_what_nobody_needs_on_a_cluster_is_left_out(folder):
    write(folder, "run.yaml", "data/text.txt", "drop_ray/cli.py")
    write(folder, ".git/config", ".venv/bin/python", ".venv-lock/x", "drop_ray/__pycache__/cli.pyc", ".mypy_cache/x")
    write(folder, "drop-ray-store/artifacts/a", "results/artifacts/a", ".env", "key.pem", "ignored.bin", "large.bin")
    (folder / ".gitignore").write_text("ignored.bin\n")
    (folder / ".rayignore").write_text("large.bin\n")
    package = make_package(folder, "results")
    assert names(package) == [".gitignore", ".rayignore", "data/text.txt", "drop_ray/cli.py", "run.yaml"]
    assert folder / "data" in package
    assert Path("data/text.txt") in package
    assert folder / "results" not in package


def test_the_selection_is_the_one_that_ray_uploads(folder, tmp_path_factory):
    import zipfile

    from ray._private.runtime_env.packaging import create_package

    write(folder, "run.yaml", ".git/config", "store/a", "deep/ignored.bin", "deep/kept.bin", "store_too/a")
    (folder / "deep" / ".gitignore").write_text("ignored.bin\n")
    package = make_package(folder, str(folder / "store"))
    archive = tmp_path_factory.mktemp("package") / "package.zip"
    create_package(str(folder), archive, include_gitignore=True, excludes=[".git", *package.excludes])
    assert sorted(zipfile.ZipFile(archive).namelist()) == names(package)
    assert "store_too/a" in names(package)
    assert "store/a" not in names(package)


def test_too_large_a_folder_is_refused_with_its_largest_files(folder, monkeypatch):
    monkeypatch.setattr(packaging, "MAX_BYTES", 5000)
    write(folder, "small.txt", size=10)
    write(folder, "a/checkpoint.bin", size=4000)
    assert len(make_package(folder, STORE).files) == 2
    write(folder, "b/other.bin", size=3000)
    with pytest.raises(UserError, match=r"6.8 KiB to upload, more than 4.9 KiB.*a/checkpoint.bin \(3.9 KiB\), b/other"):
        make_package(folder, STORE)
    assert packaging.MAX_BYTES == 5000


def test_a_config_from_elsewhere_is_refused(folder, tmp_path_factory):
    write(folder, "configs/run.yaml")
    package = make_package(folder, STORE)
    assert check_config_file(package, Path("configs/run.yaml")) == "configs/run.yaml"
    assert check_config_file(package, folder / "configs" / "run.yaml") == "configs/run.yaml"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run.yaml"
    elsewhere.touch()
    with pytest.raises(UserError, match="run.yaml is not uploaded"):
        check_config_file(package, elsewhere)


def test_files_of_the_config_that_are_uploaded_on_the_hub_or_in_the_package_are_fine(folder):
    write(folder, "text.txt", "tasks/task.yaml", "plan.json", "model/config.json")
    package = make_package(folder, STORE)
    fields = {"evaluation": {"include_path": "tasks"}, "plans": [{"file": "plan.json"}], "model": {"path": "model"}}
    assert check_paths(package, config(**fields)) == []
    demo = {"calibration": {"source": "demo:calibration.jsonl"}, "evaluation": {"include_path": "demo:tasks"}}
    assert check_paths(package, config(**demo)) == []
    on_the_hub = {"calibration": {"dataset": "allenai/c4"}}
    assert check_paths(package, config(**on_the_hub)) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"calibration": {"source": "missing.txt"}}, "calibration.source"),
        ({"calibration": {"source": "../text.txt"}}, "calibration.source"),
        ({"calibration": {"token_ids": "ids.json"}}, "calibration.token_ids"),
        ({"calibration": {"dataset": "ignored"}}, "calibration.dataset"),
        ({"calibration": {"sources": [{"source": "missing.txt"}]}}, r"calibration.sources\[0\].source"),
        ({"calibration": {"sources": [{"source": "text.txt"}, {"dataset": "ignored"}]}}, r"sources\[1\].dataset"),
        ({"model": {"path": "ignored"}}, "model.path"),
        ({"plans": [{"strategy": "mlp", "drop": 1}, {"file": "plan.json"}]}, r"plans\[1\].file"),
        ({"evaluation": {"include_path": "tasks"}}, "evaluation.include_path"),
        ({"evaluation": {"perplexity": [{"source": "held.txt"}]}}, r"evaluation.perplexity \(perplexity\).source"),
        ({"evaluation": {"divergence": {"token_ids": "held.json"}}}, "evaluation.divergence.token_ids"),
        ({"quantization": [{"method": "awq", "text": {"source": "q.txt"}}]}, r"quantization \(awq\).text.source"),
        ({"refit": [{"text": {"sources": [{"token_ids": "a.json"}]}}]}, r"refit \(refit\).text.sources\[0\].token_ids"),
        (
            {"calibration": {"source": "text.txt", "compare": [{"name": "code", "source": "code.txt"}]}},
            r"calibration.compare \(code\).source",
        ),
    ],
)
def test_a_file_that_the_job_would_not_have_is_named(folder, fields, field):
    write(folder, "text.txt", "ignored/config.json")
    (folder / ".rayignore").write_text("ignored\n")
    with pytest.raises(UserError, match=f"{field}: .* is not among the files to upload"):
        check_paths(make_package(folder, STORE), config(**fields))


def test_whole_paths_are_said_to_be_on_the_cluster_unless_they_lie_in_the_folder(folder):
    write(folder, "text.txt")
    package = make_package(folder, STORE)
    absolute = config(model={"path": "/mnt/models/llama"}, store="/mnt/store", calibration={"source": "~/c4.txt"})
    assert check_paths(package, absolute) == [
        "store: /mnt/store",
        "model.path: /mnt/models/llama",
        "calibration.source: ~/c4.txt",
    ]
    with pytest.raises(UserError, match=r"calibration.source: .* write it relative to that folder"):
        check_paths(package, config(calibration={"source": str(folder / "text.txt")}))


def test_a_store_in_the_jobs_copy_of_the_folder_is_refused(folder):
    with pytest.raises(UserError, match=r"store: drop-ray-store would lie in the job's copy .*--set store="):
        check_paths(make_package(folder, "drop-ray-store"), config(store="drop-ray-store"))
