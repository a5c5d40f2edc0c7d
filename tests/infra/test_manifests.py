"""The Kubernetes manifests against the schemas of Kubernetes and of KubeRay, and against each other. Nothing is applied."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tadscale.runtime.cluster.stopping import GRACE_S
from tadscale.runtime.retrain.spec import load_retrain
from tests.infra.schemas import kuberay, validate, validate_pod

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "infra/kubernetes/base"

KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
DOCUMENTS = [
    (name, document)
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((BASE / name).read_text())
]
RAYJOB = yaml.safe_load((BASE / "rayjob.yaml").read_text())


def resource(kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for _, d in DOCUMENTS if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def ray_pods() -> dict[str, dict[str, Any]]:
    """The pod specs that the RayJob holds, by role."""
    cluster = RAYJOB["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    submitter = RAYJOB["spec"]["submitterPodTemplate"]["spec"]
    return {"submitter": submitter, "head": cluster["headGroupSpec"]["template"]["spec"], **workers}


def all_pods() -> dict[str, dict[str, Any]]:
    retrain = resource("CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mlflow = resource("Deployment", "mlflow")["spec"]["template"]["spec"]
    return {**ray_pods(), "retrain": retrain, "mlflow": mlflow}


@pytest.mark.parametrize(
    ("name", "document"), DOCUMENTS, ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_resources_meet_kubernetes_schema(name: str, document: dict[str, Any]) -> None:
    validate(document)


def test_rayjob_meets_kuberays_schema() -> None:
    kuberay().validate(RAYJOB)


def test_kuberays_schema_refuses_a_misspelt_key() -> None:
    """The test above can fail: at the top, and deep inside a pod."""
    for path in (["spec"], ["spec", "rayClusterSpec", "headGroupSpec", "template", "spec"]):
        wrong = yaml.safe_load((BASE / "rayjob.yaml").read_text())
        node = wrong
        for key in path:
            node = node[key]
        node["entryPoint"] = "jobs/distill.yaml"
        with pytest.raises(jsonschema.ValidationError, match="entryPoint"):
            kuberay().validate(wrong)


@pytest.mark.parametrize("role", ["submitter", "head", "data", "motion", "train"])
def test_pods_of_the_rayjob_meet_kubernetes_schema(role: str) -> None:
    """KubeRay's schema leaves some of a pod open; Kubernetes' own does not."""
    validate_pod(ray_pods()[role])


def test_kustomization_lists_every_file() -> None:
    generated = [name for generator in KUSTOMIZATION["configMapGenerator"] for name in generator["files"]]
    listed = [*KUSTOMIZATION["resources"], *generated]
    assert sorted(listed) == sorted(path.name for path in BASE.iterdir() if path.name != "kustomization.yaml")


def test_kustomize_builds_it_without_starting_a_training() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(["kubectl", "kustomize", str(BASE)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    assert "RayJob" not in {document["kind"] for document in documents}
    (held,) = [d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "retrain"]
    assert yaml.safe_load(held["data"]["rayjob.yaml"]) == RAYJOB
    namespaces = {d["metadata"].get("namespace") for d in documents if d["kind"] not in ("Namespace", "PriorityClass")}
    assert namespaces == {"tadscale"}


def test_entrypoint_is_an_executable_of_the_repository() -> None:
    entrypoint = RAYJOB["spec"]["entrypoint"]
    assert entrypoint == "jobs/retrain.yaml"
    assert (ROOT / entrypoint).is_file()
    assert os.access(ROOT / entrypoint, os.X_OK)


def script_default(name: str) -> int:
    """A number that retrain.sh has, in seconds."""
    (value,) = re.findall(rf"^{name}=(?:\$\{{{name.upper()}:-)?(\d+)", (BASE / "retrain.sh").read_text(), re.MULTILINE)
    return int(value)


def test_rayjob_cleans_up_when_its_end_was_seen_and_before_the_next_attempt() -> None:
    spec = RAYJOB["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] == "K8sJobMode"
    kept_s = spec["ttlSecondsAfterFinished"]
    assert kept_s > script_default("poll_s")
    longest_s = max(pod["terminationGracePeriodSeconds"] for pod in ray_pods().values())
    assert script_default("cluster_gone_s") > kept_s + longest_s


def test_only_a_rayjob_past_its_deadlines_is_called_stuck() -> None:
    spec = RAYJOB["spec"]
    assert script_default("stuck_s") > spec["activeDeadlineSeconds"] + spec["preRunningDeadlineSeconds"]


def test_ray_is_the_version_that_the_image_installs() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={RAYJOB['spec']['rayClusterSpec']['rayVersion']}" in constraints


def test_all_our_pods_run_one_image() -> None:
    images = {pod["containers"][0]["image"] for role, pod in all_pods().items() if role != "retrain"}
    images |= {container["image"] for container in all_pods()["retrain"]["initContainers"]}
    assert images == {"tadscale:0.1.0"}


@pytest.mark.parametrize("role", ["submitter", "head", "data", "motion", "train", "retrain", "mlflow"])
def test_pods_are_confined_and_bounded(role: str) -> None:
    """Pod Security Standard `restricted`, and memory limits: one pod out of bounds does not take its node along."""
    pod = all_pods()[role]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@pytest.mark.parametrize("role", ["head", "data", "motion", "train"])
def test_ray_pods_get_settings_and_secrets_by_reference(role: str) -> None:
    (container,) = ray_pods()[role]["containers"]
    assert "env" not in container
    assert {"configMapRef": {"name": "tadscale"}} in container["envFrom"]
    assert {"secretRef": {"name": "tadscale-s3", "optional": True}} in container["envFrom"]


def test_no_secret_is_in_the_tree() -> None:
    assert "Secret" not in {document["kind"] for _, document in DOCUMENTS}
    settings = resource("ConfigMap", "tadscale")["data"]
    assert not any("KEY" in name or "TOKEN" in name or "PASSWORD" in name for name in settings)


@pytest.mark.parametrize("role", ["submitter", "head", "data", "motion", "train", "retrain", "mlflow"])
def test_every_pod_outlives_the_checkpoint_that_training_writes_at_its_end(role: str) -> None:
    grace_s = all_pods()[role]["terminationGracePeriodSeconds"]
    assert grace_s == 120
    assert grace_s > GRACE_S


@pytest.mark.parametrize("setting", ["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "RAY_JOB_STOP_WAIT_TIME_S"])
@pytest.mark.parametrize("role", ["head", "data", "motion", "train"])
def test_ray_waits_for_the_checkpoint_and_kubernetes_for_ray(role: str, setting: str) -> None:
    wait_s = int(resource("ConfigMap", "tadscale")["data"][setting])
    assert GRACE_S < wait_s < ray_pods()[role]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("role", ["head", "data", "motion", "train", "mlflow", "retrain"])
def test_who_reads_the_bucket_has_an_account_that_can_be_annotated(role: str) -> None:
    """`default` misses the head: where none is named KubeRay makes one of the cluster's name, another each time."""
    accounts = {d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "ServiceAccount"}
    account = all_pods()[role]["serviceAccountName"]
    assert account == (role if role in ("mlflow", "retrain") else "ray")
    assert account in accounts
    assert f"serviceaccount {account} " in (ROOT / "infra/README.md").read_text()


def test_only_those_who_ask_kubernetes_have_its_token() -> None:
    """The autoscaler, beside the head, adds and removes pods; retrain.sh creates RayJobs."""
    mounting = {role for role, pod in all_pods().items() if pod.get("automountServiceAccountToken", True)}
    assert mounting == {"head"}
    pod = all_pods()["retrain"]
    mounts = {
        container["name"]: {mount["name"] for mount in container["volumeMounts"]}
        for container in (*pod["containers"], *pod["initContainers"])
    }
    assert {name for name, mounted in mounts.items() if "token" in mounted} == {"retrain"}


def test_shared_memory_holds_the_object_store() -> None:
    """Ray takes 30% of a container's memory for objects, and a smaller /dev/shm sends them to the disk."""
    for role in ("head", "data", "motion", "train"):
        pod = ray_pods()[role]
        memory_gib = int(pod["containers"][0]["resources"]["limits"]["memory"].removesuffix("Gi"))
        (volume,) = pod["volumes"]
        assert int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) >= 0.3 * memory_gib
        assert pod["containers"][0]["volumeMounts"] == [{"name": "shared-memory", "mountPath": "/dev/shm"}]


def test_cluster_is_large_enough_for_the_job() -> None:
    """At its start the job counts the cluster's CPUs, and one that is too small is an error, not a wait."""
    _, job = load_retrain(ROOT / RAYJOB["spec"]["entrypoint"])
    groups = RAYJOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pods = ray_pods()
    cpus = sum(g["replicas"] * int(pods[g["groupName"]]["containers"][0]["resources"]["limits"]["cpu"]) for g in groups)
    assert job.cluster.required(motion=True)["CPU"] <= cpus
    assert job.cluster.required(motion=True)["GPU"] == 0
    assert [g["maxReplicas"] for g in groups if g["groupName"] == "train"] == [job.cluster.workers]


def test_job_file_reads_the_settings() -> None:
    """Every TADSCALE_ variable that the cluster sets is read by the retraining or its job, and the other way round."""
    retraining = ROOT / RAYJOB["spec"]["entrypoint"]
    config, _ = load_retrain(retraining)
    read = retraining.read_text() + (retraining.parent / config.job).read_text()
    referred = set(re.findall(r"\$\{(TADSCALE_\w+)", read))
    settings = {name for name in resource("ConfigMap", "tadscale")["data"] if name.startswith("TADSCALE_")}
    assert settings | set(yaml.safe_load(RAYJOB["spec"]["runtimeEnvYAML"])["env_vars"]) == referred


def test_cronjob_waits_longer_than_all_attempts_and_less_than_its_period() -> None:
    cron = resource("CronJob", "retrain")["spec"]
    attempts_s = (cron["jobTemplate"]["spec"]["backoffLimit"] + 1) * RAYJOB["spec"]["activeDeadlineSeconds"]
    assert cron["schedule"].split()[-1] == "0"  # weekly
    assert attempts_s < cron["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 7 * 86400
    assert cron["concurrencyPolicy"] == "Forbid"


def test_cronjob_looks_with_what_the_training_would_look_with() -> None:
    """The same file, settings and secrets; its answer is where the script reads it."""
    (look,) = all_pods()["retrain"]["initContainers"]
    assert look["command"] == ["tadscale", "plan", RAYJOB["spec"]["entrypoint"], "--answer", "/look/answer"]
    assert look["envFrom"] == ray_pods()["head"]["containers"][0]["envFrom"]
    (script,) = all_pods()["retrain"]["containers"]
    assert {"name": "ANSWER", "value": look["command"][-1]} in script["env"]
    for container in (look, script):
        assert "/look" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_cronjob_gives_the_script_what_it_reads() -> None:
    (container,) = all_pods()["retrain"]["containers"]
    (needed,) = re.findall(r"^: (.*)$", (BASE / "retrain.sh").read_text(), re.MULTILINE)
    assert set(re.findall(r"\w+", needed)) <= {variable["name"] for variable in container["env"]}
    files = KUSTOMIZATION["configMapGenerator"][0]["files"]
    assert container["command"] == ["sh", "/retrain/retrain.sh", "/retrain/rayjob.yaml"]
    assert {Path(argument).name for argument in container["command"][1:]} == set(files)


def test_role_allows_what_the_script_does_and_no_more() -> None:
    script = (BASE / "retrain.sh").read_text()
    used = {verb for verb in ("get", "create", "delete", "patch", "apply", "wait") if f"rayjobs {verb} " in script}
    assert used == {"get", "create"}
    (rule,) = resource("Role", "retrain")["rules"]
    assert rule == {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "list", "create"]}
    (subject,) = resource("RoleBinding", "retrain")["subjects"]
    assert subject["name"] == all_pods()["retrain"]["serviceAccountName"]
