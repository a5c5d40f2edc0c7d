"""Base and overlays, as rendered: valid, confined, without secrets, within their quota, and large enough for their job."""

import re
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import _get_ray_resources_from_group_spec

from tadscale.runtime.cluster.capacity import shortage
from tadscale.runtime.planning.kubernetes import patch_text, planned, rayjob_patch, worker_groups
from tadscale.runtime.retrain.spec import load_retrain
from tadscale.runtime.stage.job import JobConfig
from tests.infra.overlays import KUBERNETES, OVERLAYS, PLACES, find, pods, rayjob, rendered
from tests.infra.schemas import ROOT, kuberay, validate, validate_pod

GLOBAL = {"Namespace", "PriorityClass", "ResourceFlavor", "ClusterQueue"}  # kinds that live in no namespace
GIB = {"Gi": 1.0, "Mi": 2**-10, "": 2**-30}
ROLES = {"submitter", "head", "data", "motion", "train", "mlflow", "retrain"}


def containers(place: str) -> list[dict[str, Any]]:
    """Those of all pods, and the autoscaler's, which has no template."""
    options = rayjob(place)["spec"]["rayClusterSpec"].get("autoscalerOptions")
    listed = [c for pod in pods(place).values() for c in (*pod.spec["containers"], *pod.spec.get("initContainers", []))]
    return listed + ([options] if options else [])


def job_of(place: str) -> JobConfig:
    """The job that the retraining on the RayJob's line runs, with the settings that follow."""
    path, *words = rayjob(place)["spec"]["entrypoint"].split()
    assert set(words[::2]) <= {"--set"}
    return load_retrain(ROOT / path, words[1::2])[1]


def test_each_overlay_that_is_asked_for_is_there() -> None:
    assert set(OVERLAYS) == {"auth", "dev", "gpu", "kueue", "postgres", "production", "spot"}
    stacked = yaml.safe_load((KUBERNETES / "overlays/production/kustomization.yaml").read_text())["components"]
    assert [path.rpartition("/")[2] for path in stacked] == ["gpu", "spot", "auth", "postgres", "monitoring"]


@pytest.mark.parametrize("place", PLACES)
def test_every_document_meets_the_schema_of_its_kind(place: str) -> None:
    for document in rendered(place):
        validate(document)
        expected = None if document["kind"] in GLOBAL else "tadscale"
        assert document["metadata"].get("namespace") == expected, document["kind"]


@pytest.mark.parametrize("place", PLACES)
def test_the_rayjob_and_its_pods_meet_theirs(place: str) -> None:
    kuberay().validate(rayjob(place))


@pytest.mark.parametrize("place", PLACES)
def test_every_pod_meets_kubernetes_schema(place: str) -> None:
    assert set(pods(place)) == ROLES
    for pod in pods(place).values():
        validate_pod(pod.spec)


def test_a_misspelt_key_is_refused() -> None:
    deployment = yaml.safe_load(yaml.safe_dump(find("base", "Deployment", "mlflow")))
    deployment["spec"]["replica"] = 1
    with pytest.raises(ValidationError, match="replica"):
        validate(deployment)


@pytest.mark.parametrize("place", PLACES)
def test_no_image_moves_under_its_name(place: str) -> None:
    images = [container["image"] for container in containers(place) if "image" in container]
    assert images
    for image in images:
        assert re.fullmatch(r"[\w./-]+(:[\w.-]+|(:[\w.-]+)?@sha256:[0-9a-f]{64})", image), image
        assert not image.endswith(":latest")
    ours = {image for image in images if "tadscale" in image}
    assert len(ours) == 1, "MLflow and Ray run one image"


def test_production_names_its_image_once_and_ray_runs_it_too() -> None:
    text = (KUBERNETES / "overlays/production/kustomization.yaml").read_text()
    (name,) = re.findall(r"newName: (\S+)", text)
    assert {
        pod.spec["containers"][0]["image"] for role, pod in pods("overlays/production").items() if role != "retrain"
    } == {f"{name}:0.1.0-cuda"}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_runs_as_root_or_may_become_it(place: str) -> None:
    for role, pod in pods(place).items():
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, role
        assert security["runAsUser"] > 0, role
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, role
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), role
        assert not [volume for volume in pod.spec["volumes"] if "hostPath" in volume] if "volumes" in pod.spec else True
    for container in containers(place):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


SECRET_NAME = re.compile(r"password|token|secret|access_key|credential", re.IGNORECASE)


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_in_clear(place: str) -> None:
    assert "Secret" not in {document["kind"] for document in rendered(place)}
    for container in containers(place):
        clear = [one["name"] for one in container.get("env", []) if "value" in one and SECRET_NAME.search(one["name"])]
        assert not clear
    for document in rendered(place):
        named = [key for key in document.get("data", {}) if SECRET_NAME.search(key)]
        assert not named
    text = yaml.safe_dump_all([*rendered(place), rayjob(place)])
    assert not re.search(r"://[^/\s:@]+:[^/\s@]+@|AKIA[0-9A-Z]{16}|PRIVATE KEY|admin_password *=", text)


@pytest.mark.parametrize("place", PLACES)
def test_every_secret_that_is_read_is_told_of(place: str) -> None:
    text = yaml.safe_dump_all([*rendered(place), rayjob(place)])
    read = set(re.findall(r"secret(?:KeyRef|Ref):\n(?:\s+key: \S+\n)?\s+name: (\S+)", text))
    assert {"tadscale-s3", "mlflow-client"} <= read
    readme = (ROOT / "infra/README.md").read_text()
    assert [name for name in read if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_public(place: str) -> None:
    documents = rendered(place)
    assert not {"Ingress", "Gateway", "HTTPRoute"} & {document["kind"] for document in documents}
    for document in documents:
        if document["kind"] == "Service":
            assert document["spec"].get("type", "ClusterIP") == "ClusterIP"
    cluster = rayjob(place)["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert "serviceType" not in cluster
    assert "enableIngress" not in cluster
    quota = find(place, "ResourceQuota", "tadscale")["spec"]["hard"]
    assert quota["services.loadbalancers"] == quota["services.nodeports"] == "0"
    for pod in pods(place).values():
        assert not [port for one in pod.spec["containers"] for port in one.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("place", PLACES)
def test_ray_asks_for_a_token_that_is_made_for_each_cluster(place: str) -> None:
    cluster = rayjob(place)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH" not in yaml.safe_dump_all(rendered(place))


@pytest.mark.parametrize("place", PLACES)
def test_the_quota_holds_the_largest_training(place: str) -> None:
    autoscaler = rayjob(place)["spec"]["rayClusterSpec"].get("autoscalerOptions")
    beside = autoscaler["resources"]["requests"] if autoscaler else {}
    total = {
        name: sum(pod.most * reserved(pod.spec, name) for pod in pods(place).values()) + amount(beside.get(name, "0"))
        for name in ("cpu", "memory", "nvidia.com/gpu")
    }
    hard = find(place, "ResourceQuota", "tadscale")["spec"]["hard"]
    assert total["cpu"] <= amount(hard["requests.cpu"])
    assert total["memory"] <= amount(hard["requests.memory"])
    assert total["nvidia.com/gpu"] == amount(hard["requests.nvidia.com/gpu"])
    assert sum(pod.most for pod in pods(place).values()) < int(hard["pods"])


def reserved(spec: dict[str, Any], what: str) -> float:
    """What a node keeps for a pod: its containers' requests together, or that of an init container which asks for more."""
    requests = [
        [amount(one["resources"]["requests"].get(what, "0")) for one in spec.get(kind, [])]
        for kind in ("containers", "initContainers")
    ]
    return max([sum(requests[0]), *requests[1]])


def amount(quantity: str) -> float:
    """CPUs, or GiB."""
    if quantity.endswith("m"):
        return int(quantity[:-1]) / 1000
    (number, unit) = re.fullmatch(r"(\d+)(Gi|Mi)?", quantity).groups()  # type: ignore[union-attr]
    return int(number) * (GIB[unit] if unit else 1)


@pytest.mark.parametrize("place", PLACES)
def test_the_cluster_of_the_start_holds_the_job(place: str) -> None:
    """By the count that the job itself makes, of what Ray's autoscaler reads in the groups."""
    total: dict[str, float] = {}
    for group in rayjob(place)["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        for name, offered in _get_ray_resources_from_group_spec(group, False).items():
            total[name] = total.get(name, 0) + group["replicas"] * offered
    assert shortage(job_of(place).cluster, total, motion=True) is None


@pytest.mark.parametrize("place", PLACES)
def test_every_group_offers_as_much_of_itself_as_it_has_cpus(place: str) -> None:
    for group in rayjob(place)["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert group["resources"] == {group["groupName"]: limits["cpu"]}
        assert group["template"]["metadata"]["labels"]["tadscale-group"] == group["groupName"]


def test_gpu_is_what_the_plan_says_of_its_entrypoint() -> None:
    job = job_of("overlays/gpu")
    assert planned(job) == job.cluster
    assert (
        (KUBERNETES / "components/gpu/rayjob-gpu.yaml")
        .read_text()
        .endswith(patch_text(rayjob_patch(worker_groups(job))))
    )


@pytest.mark.parametrize("place", ["overlays/gpu", "overlays/production"])
def test_gpus_are_for_motion_and_training_on_nodes_apart(place: str) -> None:
    seen = pods(place)
    limits = {role: pod.spec["containers"][0]["resources"]["limits"] for role, pod in seen.items()}
    assert {role for role, limit in limits.items() if "nvidia.com/gpu" in limit} == {"motion", "train"}
    tainted = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert tainted not in seen["data"].spec.get("tolerations", [])
    assert all(tainted in seen[role].spec["tolerations"] for role in ("motion", "train"))


@pytest.mark.parametrize("place", ["overlays/spot", "overlays/production"])
def test_spot_is_preferred_for_what_holds_no_state_and_refused_for_the_rest(place: str) -> None:
    affinity = {
        role: pod.spec.get("affinity", {}).get("nodeAffinity", {}) for role, pod in pods(place).items() if role in ROLES
    }
    for role in ("data", "motion"):
        assert set(affinity[role]) == {"preferredDuringSchedulingIgnoredDuringExecution"}, "falls back to on-demand"
    for role in ("head", "train"):
        (term,) = affinity[role]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        refused = {(one["key"], *one["values"]) for one in term["matchExpressions"] if one["operator"] == "NotIn"}
        preferred = affinity["data"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert refused == {
            (one["key"], *one["values"]) for choice in preferred for one in choice["preference"]["matchExpressions"]
        }


def test_kueue_gets_the_rayjob_suspended_and_of_fixed_size() -> None:
    job = rayjob("overlays/kueue")
    queue = find("overlays/kueue", "LocalQueue", job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"])
    assert job["spec"]["suspend"] is True
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    shared = find("overlays/kueue", "ClusterQueue", queue["spec"]["clusterQueue"])
    (resources,) = shared["spec"]["resourceGroups"]
    assert resources["coveredResources"] == [one["name"] for one in resources["flavors"][0]["resources"]]
    assert find("overlays/kueue", "ResourceFlavor", resources["flavors"][0]["name"])


def test_dev_fits_on_a_node_of_four_cpus_and_starts_nothing() -> None:
    assert find("overlays/dev", "CronJob", "retrain")["spec"]["suspend"] is True
    running = [pod.spec for pod in pods("overlays/dev").values() if pod.most]
    assert sum(reserved(spec, "cpu") for spec in running) < 4
    assert sum(reserved(spec, "memory") for spec in running) < 12
    settings = find("overlays/dev", "ConfigMap", "tadscale")["data"]
    mounts = {role: pod.spec["containers"][0].get("volumeMounts", []) for role, pod in pods("overlays/dev").items()}
    mounts["look"] = pods("overlays/dev")["retrain"].spec["initContainers"][0]["volumeMounts"]
    for role in ("head", "data", "train", "look"):
        assert {"name": "runs", "mountPath": settings["TADSCALE_STORAGE"]} in mounts[role]


@pytest.mark.parametrize("place", PLACES)
def test_who_looks_asks_about_the_file_that_would_be_run(place: str) -> None:
    (look,) = pods(place)["retrain"].spec["initContainers"]
    assert look["command"][2] == rayjob(place)["spec"]["entrypoint"].split()[0]
    assert look["image"] == pods(place)["head"].spec["containers"][0]["image"]


@pytest.mark.parametrize("place", ["overlays/auth", "overlays/production"])
def test_mlflow_does_not_start_without_its_password(place: str) -> None:
    (server,) = pods(place)["mlflow"].spec["containers"]
    assert "--app-name=basic-auth" in server["command"]
    wanted = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in server["env"] if "valueFrom" in one}
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        assert wanted[name] == {"name": "mlflow-auth", "key": name}  # not optional


@pytest.mark.parametrize("place", PLACES)
def test_mlflow_has_ten_minutes_to_migrate_before_it_is_taken_for_hung(place: str) -> None:
    (server,) = pods(place)["mlflow"].spec["containers"]
    started = server["startupProbe"]
    assert started["failureThreshold"] * started["periodSeconds"] >= 600
    assert started["httpGet"] == server["livenessProbe"]["httpGet"]


@pytest.mark.parametrize("place", ["overlays/postgres", "overlays/production"])
def test_mlflow_on_postgresql_keeps_nothing_in_its_pods(place: str) -> None:
    deployment = find(place, "Deployment", "mlflow")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["type"] == "RollingUpdate"
    volumes = {volume["name"]: volume for volume in deployment["template"]["spec"]["volumes"]}
    assert "persistentVolumeClaim" not in volumes["data"]
    assert "PersistentVolumeClaim" not in {document["kind"] for document in rendered(place)}
    settings = find(place, "ConfigMap", "mlflow")["data"]
    assert settings["MLFLOW_BACKEND_STORE_URI"] == "postgresql:///mlflow"
    assert settings["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://")
    assert "sqlite" not in yaml.safe_dump_all(rendered(place))
    assert find(place, "PodDisruptionBudget", "mlflow")["spec"]["minAvailable"] < deployment["replicas"]


@pytest.mark.parametrize("place", PLACES)
def test_budgets_and_priorities_are_those_of_pods_that_exist(place: str) -> None:
    labels = [pod.labels for pod in pods(place).values()]
    for document in rendered(place):
        if document["kind"] == "PodDisruptionBudget":
            wanted = document["spec"]["selector"]["matchLabels"].items()
            assert any(wanted <= found.items() for found in labels)
    classes = {
        document["metadata"]["name"]: document["value"]
        for document in rendered(place)
        if document["kind"] == "PriorityClass"
    }
    priority = {role: classes[pod.spec["priorityClassName"]] for role, pod in pods(place).items()}
    assert [role for role in priority if priority[role] == min(classes.values())] == ["data"]
