"""The manifests as kubectl renders them, and where things lie."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = tuple(sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml")))
# The CRDs of KubeRay are too large for this repository.
CRDS = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "crd"))

Document = dict[str, Any]


def render(overlay: str) -> list[Document]:
    """All objects of an overlay; the test is skipped where kubectl is not installed."""
    return list(yaml.safe_load_all(kustomize(MANIFESTS / "overlays" / overlay)))


@cache
def kustomize(folder: Path) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: it renders the manifests")
    result = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def ray_spec(document: Document) -> Document:
    """The cluster that a RayJob or a RayCluster asks for."""
    spec: Document = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def pod_templates(document: Document) -> dict[str, Document]:
    """Pod templates of an object by what they are: `submitter`, `head`, the names of worker groups, or the object's."""
    if document["kind"] == "Deployment":
        return {document["metadata"]["name"]: document["spec"]["template"]}
    if document["kind"] not in ("RayJob", "RayCluster"):
        return {}
    cluster = ray_spec(document)
    templates = {"head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in document["spec"]:
        templates["submitter"] = document["spec"]["submitterPodTemplate"]
    return templates


def pinned(package: str, lock: str) -> str:
    """The version of a package in a lock file, a path from the root."""
    lines = (ROOT / lock).read_text().splitlines()
    (version,) = (line.partition("==")[2] for line in lines if line.lower().startswith(f"{package}=="))
    return version
