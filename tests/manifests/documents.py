"""The manifests as kubectl renders them, and where things lie."""

import os
import shutil
import subprocess
import tempfile
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
RAY_KINDS = ("RayJob", "RayCluster", "RayService")


# What is added to overlays/gpu, and to some overlays: each has a test with the other rules.
VARIANTS = tuple(sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml")))


def render(name: str) -> list[Document]:
    """All objects of an overlay, or of overlays/gpu with a variant; skipped where kubectl is not installed."""
    folder = MANIFESTS / "overlays" / name
    if folder.is_dir():
        return list(yaml.safe_load_all(kustomize(folder)))
    return list(yaml.safe_load_all(_with_variants(name)))


@cache
def _with_variants(*variants: str) -> str:
    """overlays/gpu with variants, as somebody's own overlay adds them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        # kustomize takes relative paths only.
        manifests = os.path.relpath(MANIFESTS, folder)
        own = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{manifests}/overlays/gpu"],
            "components": [f"{manifests}/components/{variant}" for variant in variants],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
        return kustomize(folder)


def render_together(*variants: str) -> list[Document]:
    """As `render`, of overlays/gpu with several variants."""
    return list(yaml.safe_load_all(_with_variants(*variants)))


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
    """The cluster that a RayJob, a RayService or a RayCluster asks for."""
    spec: Document = document["spec"]
    field = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(document["kind"])
    return spec[field] if field else spec


def pod_templates(document: Document) -> dict[str, Document]:
    """Pod templates of an object by what they are: `submitter`, `head`, the names of worker groups, or the object's."""
    if document["kind"] in ("Deployment", "Job"):
        return {document["metadata"]["name"]: document["spec"]["template"]}
    if document["kind"] == "CronJob":
        return {document["metadata"]["name"]: document["spec"]["jobTemplate"]["spec"]["template"]}
    if document["kind"] not in RAY_KINDS:
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
