"""KubeRay's schemas made strict, as the API server is with --validate=strict: an unknown field is an error."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator


@cache
def validator(crds: Path, kind: str) -> Validator:
    """For objects ray.io/v1 of one kind, by the CRD file in `crds`."""
    return Draft202012Validator(_schema(crds, kind))


@cache
def pod_template_validator(crds: Path) -> Validator:
    """For pod templates of any object: the CRD contains Kubernetes' own schema of them."""
    spec = _schema(crds, "RayCluster")["properties"]["spec"]
    return Draft202012Validator(spec["properties"]["headGroupSpec"]["properties"]["template"])


def faults(validator: Validator, document: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]


@cache
def _schema(crds: Path, kind: str) -> dict[str, Any]:
    path = crds / f"ray.io_{kind.lower()}s.yaml"
    definition = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
    schema: dict[str, Any] = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _strict(schema: Any) -> Any:
    """The schema in plain JSON Schema: Kubernetes' extensions are translated, and objects are closed."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: value if key in ("enum", "default", "required") else _strict(value) for key, value in schema.items()}
    if strict.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_open = strict.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in strict
    if strict.get("type") == "object" and "properties" in strict and not is_open:
        strict["additionalProperties"] = False
    if strict.get("nullable") and isinstance(strict.get("type"), str):
        strict["type"] = [strict["type"], "null"]
    return strict
