"""Overlays as `kubectl` renders them, and the RayJob that the CronJob's pod makes of what it mounts."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.infra.kubectl import KUBECTL, install, retrain

KUBERNETES = Path(__file__).resolve().parents[2] / "infra/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
PLACES = ["base", *(f"overlays/{name}" for name in OVERLAYS)]


class PodSeen(NamedTuple):
    """A pod that there may be."""

    labels: dict[str, str]
    spec: dict[str, Any]
    most: int
    """How many of them at once."""


@functools.cache
def rendered(place: str) -> list[dict[str, Any]]:
    """All documents of the base or of an overlay."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / place)], capture_output=True, text=True, timeout=60
    )
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def find(place: str, kind: str, name: str) -> dict[str, Any]:
    """The one document of a kind and a name."""
    (found,) = [d for d in rendered(place) if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


@functools.cache
def rayjob(place: str) -> dict[str, Any]:
    """What `retrain.sh` creates, run in a shell with the ConfigMap's files and the pod's IMAGE."""
    cron = find(place, "CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (image,) = [one["value"] for one in cron["containers"][0]["env"] if one["name"] == "IMAGE"]
    with tempfile.TemporaryDirectory() as text:
        folder, mounted = Path(text), Path(text) / "retrain"
        mounted.mkdir()
        for name, content in find(place, "ConfigMap", "retrain")["data"].items():
            (mounted / name).write_text(content)
        install(folder, "kubectl", KUBECTL)
        (folder / "list").write_text("")
        (folder / "polls").write_text("Complete,SUCCEEDED,\n")
        answer = retrain(folder, mounted, IMAGE=image)
    assert answer.exit_code == 0, answer.output
    assert answer.created is not None
    return answer.created


def pods(place: str) -> dict[str, PodSeen]:
    """Every pod of a place, those of the RayJob too, by role; workers by their group."""
    spec = rayjob(place)["spec"]
    cluster = spec["rayClusterSpec"]
    mlflow = find(place, "Deployment", "mlflow")["spec"]
    retrain_pod = find(place, "CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["template"]
    found = {
        "submitter": (spec["submitterPodTemplate"], 1),
        "head": (cluster["headGroupSpec"]["template"], 1),
        **{group["groupName"]: (group["template"], group["maxReplicas"]) for group in cluster["workerGroupSpecs"]},
        "mlflow": (mlflow["template"], mlflow["replicas"] + mlflow["strategy"]["type"].count("Rolling")),
        "retrain": (retrain_pod, 1),
    }
    return {role: PodSeen(pod["metadata"]["labels"], pod["spec"], most) for role, (pod, most) in found.items()}
