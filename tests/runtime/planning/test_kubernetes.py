"""The worker groups of a job: every process finds room in its group by Ray's own reading of it, and no pod is idle."""

import json

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _get_ray_resources_from_group_spec

from tadscale.cli import main
from tadscale.runtime.cluster.capacity import ClusterConfig, shortage
from tadscale.runtime.planning.kubernetes import GPU, kubernetes_text, planned, rayjob_patch, worker_groups
from tadscale.runtime.stage.job import JobConfig

GPUS = {
    "workers": 4,
    "cpus_per_worker": 4,
    "gpus_per_worker": 1,
    "cpus_per_fetch": 0.5,
    "motion_actors": 3,
    "max_motion_actors": 6,
    "cpus_per_motion": 2,
    "gpus_per_motion": 0.5,
}
SHARED_GPU = {"workers": 4, "gpus_per_worker": 0.25, "cpus_per_worker": 2, "motion_actors": 1, "gpus_per_motion": 0.25}


def job(cluster: dict, **settings) -> JobConfig:
    given = {
        "kind": "distill",
        "name": "x",
        "storage": "runs",
        "data": {"url": "nowhere"},
        "optim": {"global_batch": 4},
        "cluster": cluster,
    }
    return JobConfig.model_validate(given | settings)


def offered(job: JobConfig) -> dict[str, float]:
    """What the pods of the start offer, as Ray's autoscaler reads a group."""
    total: dict[str, float] = {}
    for group in worker_groups(job):
        container = {"resources": {"requests": group.resources, "limits": group.resources}}
        spec = {
            "groupName": group.name,
            "rayStartParams": {},
            "resources": {group.name: str(group.cpus)},
            "template": {"spec": {"containers": [container]}},
        }
        for name, amount in _get_ray_resources_from_group_spec(spec, False).items():
            total[name] = total.get(name, 0) + group.pods * amount
    return total


@pytest.mark.parametrize("cluster", [{}, {"workers": 2, "cpus_per_worker": 1.5}, GPUS, SHARED_GPU])
def test_a_job_fits_on_its_groups_and_on_not_a_pod_less(cluster):
    needs, total = planned(job(cluster)), offered(job(cluster))
    assert shortage(needs, total, motion=True) is None
    for group in worker_groups(job(cluster))[1:]:
        fewer = total | {group.name: total[group.name] - group.cpus}
        assert f"CPUs in group {group.name}" in (shortage(needs, fewer, motion=True) or "")


def test_groups_of_a_gpu_job():
    data, motion, train = worker_groups(job(GPUS))
    assert (data.gpus, data.pods, data.cpus) == (0, 4, 4)  # 32 fetching tasks of half a CPU
    assert (motion.gpus, motion.cpus, motion.pods, motion.most) == (1, 4, 2, 3)  # two actors share a GPU
    assert (train.gpus, train.cpus, train.pods, train.fewest) == (1, 4, 4, 4)


def test_elastic_training_may_begin_with_fewer():
    train = worker_groups(job({"workers": 4, "min_workers": 2, "gpus_per_worker": 1}))[2]
    assert (train.fewest, train.pods, train.most) == (2, 4, 4)


def test_a_job_that_only_evaluates_has_no_training_pods():
    assert worker_groups(job(GPUS, kind="evaluate"))[2].pods == 0


def test_how_many_tasks_fetch_is_the_job_s_to_say():
    assert worker_groups(job(GPUS | {"max_fetches": 8}))[0].pods == 1
    assert planned(job(GPUS | {"max_fetches": 8})).max_fetches == 8


def test_the_patch_tests_before_it_sets():
    operations = rayjob_patch(worker_groups(job(GPUS)))
    tests = [index for index, one in enumerate(operations) if one["op"] == "test"]
    assert tests[0] == 0
    assert [operations[index]["value"] for index in tests] == ["data", "motion", "train"]
    limits = [one["value"]["limits"] for one in operations if one["path"].endswith("/containers/0/resources")]
    assert [limit.get(GPU) for limit in limits] == [None, "1", "1"]


def test_the_text_is_two_documents_and_its_section_is_a_cluster_section():
    section, patch = yaml.safe_load_all(kubernetes_text(job(GPUS)))
    assert ClusterConfig.model_validate(section["cluster"]) == planned(job(GPUS))
    assert patch == json.loads(json.dumps(rayjob_patch(worker_groups(job(GPUS)))))


def test_the_command_needs_neither_gpu_nor_data(capsys):
    gpus = ("--set", "cluster.gpus_per_worker=1", "--set", "cluster.gpus_per_motion=1")
    assert main(["plan", "jobs/distill.yaml", "--kubernetes", *gpus]) == 0
    section, patch = yaml.safe_load_all(capsys.readouterr().out)
    assert section["cluster"]["groups"] == {"fetch": "data", "motion": "motion", "training": "train"}
    assert len(patch) == 21
