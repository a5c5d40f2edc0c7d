"""What manifests are held against: Kubernetes' own schemas, KubeRay's where they are at hand, and of the resources of other
operators the parts that are used here."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TADSCALE_SHARED", ROOT.parent / "shared"))
KUBERNETES = "1.33"

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SELECTOR = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "matchLabels": TEXTS,
        "matchExpressions": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["key", "operator"],
                "properties": {
                    "key": {"type": "string"},
                    "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


DURATION = {"type": "string", "pattern": r"^(\d+(ms|[smhdwy]))+$"}
# Of prometheus-operator's monitoring.coreos.com/v1 and Kueue's kueue.x-k8s.io/v1beta1, the keys that are used: any other is
# refused here, so that a misspelt one is, too.
SPECS: dict[str, dict[str, Any]] = {
    "PodMonitor": _object(
        ("selector", "podMetricsEndpoints"),
        selector=SELECTOR,
        podMetricsEndpoints={
            "type": "array",
            "items": _object(("port",), port={"type": "string"}, interval=DURATION, path={"type": "string"}),
        },
    ),
    "PrometheusRule": _object(
        ("groups",),
        groups={
            "type": "array",
            "items": _object(
                ("name", "rules"),
                name={"type": "string"},
                interval=DURATION,
                rules={
                    "type": "array",
                    "items": {
                        **_object(("alert", "expr")),
                        "properties": {
                            "alert": {"type": "string", "pattern": "^[A-Za-z]+$"},
                            "expr": {"type": "string"},
                            "for": DURATION,
                            "labels": TEXTS,
                            "annotations": TEXTS,
                        },
                    },
                },
            ),
        },
    ),
    "LocalQueue": _object(("clusterQueue",), clusterQueue={"type": "string"}),
    "ResourceFlavor": _object((), nodeLabels=TEXTS),
    "ClusterQueue": _object(
        ("resourceGroups",),
        cohort={"type": "string"},
        namespaceSelector=SELECTOR,
        resourceGroups={
            "type": "array",
            "items": _object(
                ("coveredResources", "flavors"),
                coveredResources={"type": "array", "items": {"type": "string"}},
                flavors={
                    "type": "array",
                    "items": _object(
                        ("name", "resources"),
                        name={"type": "string"},
                        resources={
                            "type": "array",
                            "items": _object(
                                ("name", "nominalQuota"),
                                name={"type": "string"},
                                nominalQuota={"type": "string"},
                            ),
                        },
                    ),
                },
            ),
        },
    ),
}
VERSIONS = {
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    **dict.fromkeys(("LocalQueue", "ResourceFlavor", "ClusterQueue"), "kueue.x-k8s.io/v1beta1"),
}


def validate(document: dict[str, Any]) -> None:
    """Hold a document against the schema of its kind; unknown keys are refused."""
    kind = document["kind"]
    if kind not in SPECS:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    assert document["apiVersion"] == VERSIONS[kind]
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(document["spec"], SPECS[kind])


def validate_pod(spec: dict[str, Any]) -> None:
    """Hold a pod's spec against Kubernetes' own schema."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def closed(schema: Any) -> Any:
    """A CRD's schema as JSON Schema: unknown keys refused, as `kubectl` does, and quantities integers or strings."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    strict = {key: closed(value) for key, value in schema.items() if key != "format"}
    if "properties" in strict and isinstance(strict["properties"], dict) and strict.get("type") == "object":
        strict["properties"] = {name: closed(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict.setdefault("additionalProperties", False)
    return strict


@functools.cache
def kuberay() -> jsonschema.Draft7Validator:
    """Of a RayJob, by KubeRay's own schema; made once, it is large."""
    path = SHARED / "schemas/rayjobs.v1.json"
    if not path.exists():
        pytest.skip(f"KubeRay's schema is not here: {path} (TADSCALE_SHARED names the folder above schemas/)")
    schema = closed(json.loads(path.read_text())["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return jsonschema.Draft7Validator(schema)
