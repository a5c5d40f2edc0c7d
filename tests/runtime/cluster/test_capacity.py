"""Whether a job fits on the cluster, before anything waits for ever."""

import json

import pytest

from tadscale.runtime.cluster.capacity import ClusterConfig, check_capacity, local_cpus, shortage


def test_two_cores_can_hold_two_workers_and_their_data():
    config = ClusterConfig(workers=2, cpus_per_worker=0.5, cpus_per_fetch=0.5, cpus_per_motion=0.5)
    assert config.required(motion=True) == {"CPU": 2.0, "GPU": 0.0}


def test_a_local_cluster_is_given_the_logical_cpus_that_the_job_needs():
    assert local_cpus(ClusterConfig(workers=40)) == 42
    assert local_cpus(ClusterConfig()) >= 3


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("changes", "motion", "words"),
    [
        ({"workers": 4}, False, r"4 CPUs for 4 training worker\(s\), 1 to fetch"),
        ({"workers": 2, "motion_actors": 2}, True, "2 for motion"),
    ],
)
def test_a_job_that_leaves_no_cpu_for_data_is_refused(changes, motion, words):
    with pytest.raises(ValueError, match=words) as refusal:
        check_capacity(ClusterConfig(**changes), motion=motion)
    assert "wait for ever" in str(refusal.value)


def test_a_machine_without_gpus_is_told_of_gpus_alone():
    lack = shortage(ClusterConfig(workers=1, gpus_per_worker=1), {"CPU": 8.0}, motion=False)
    assert lack is not None and lack.startswith("the cluster has 0 GPUs, and this stage needs 1 GPUs. Lower")
    assert "set cluster.gpus_per_worker=0 and cluster.gpus_per_motion=0 to compute on CPUs" in lack
    assert "CPUs left for data" not in lack


def test_a_pool_of_actors_that_would_shrink_is_refused():
    with pytest.raises(ValueError, match="max_motion_actors = 1 is below motion_actors = 2"):
        ClusterConfig(motion_actors=2, max_motion_actors=1)


@pytest.mark.usefixtures("cluster")
def test_a_job_that_fits_is_not_refused():
    check_capacity(ClusterConfig(workers=3), motion=False)
    check_capacity(ClusterConfig(workers=100), motion=True, training=False)


@pytest.mark.parametrize(
    ("changes", "nodes", "motion", "plane"),
    [
        ({}, 1, True, "embedded"),
        ({}, 2, True, "ray"),
        ({"groups": {"training": "train"}}, 1, False, "ray"),
        ({"wait_for_nodes_s": 60}, 1, False, "ray"),
        ({"gpus_per_worker": 1}, 1, False, "ray"),
        ({"gpus_per_motion": 1}, 1, True, "ray"),
        ({"gpus_per_motion": 1}, 1, False, "embedded"),
        ({"motion_actors": 2}, 1, True, "ray"),
        ({"workers": 2, "motion_actors": 2}, 1, True, "embedded"),
        ({"max_motion_actors": 2}, 1, True, "ray"),
        ({"data_plane": "ray"}, 1, True, "ray"),
        ({"data_plane": "embedded", "groups": {"training": "train"}}, 2, True, "embedded"),
    ],
)
def test_workers_read_for_themselves_where_ray_data_has_nothing_to_spread(changes, nodes, motion, plane):
    assert ClusterConfig.model_validate(changes).plane(nodes, motion=motion) == plane


def test_workers_that_read_for_themselves_need_no_other_cpus():
    config = ClusterConfig(
        workers=2, motion_actors=2, groups={"fetch": "data", "motion": "motion", "training": "train"}
    )
    needed = {"CPU": 2.0, "GPU": 0.0, "data": 0.0, "motion": 0.0, "train": 2.0}
    assert config.required(motion=True, plane="embedded") == needed
    assert shortage(config, {"CPU": 2, "train": 2}, motion=True, plane="embedded") is None
    said = shortage(config, {"CPU": 1, "train": 2}, motion=True, plane="embedded") or ""
    assert "2 CPUs for 2 training worker(s). Lower cluster.workers" in said
    assert "motion" not in said and "wait for ever" not in said


def test_threads_that_fetch_share_the_cpus_that_workers_leave():
    demo = ClusterConfig(workers=2, cpus_per_worker=0.5, cpus_per_fetch=0.25)
    assert demo.fetches_per_worker(2) == 2
    assert demo.fetches_per_worker(1) == 1
    assert ClusterConfig(cpus_per_worker=4, max_fetches=3).fetches_per_worker(16) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not readable JSON"), (json.dumps({"zero_optimization": {"stage": 3}}), "use stage 2")],
)
def test_a_bad_preset_file_is_named(text, words, tmp_path):
    path = tmp_path / "preset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        ClusterConfig(deepspeed_preset=str(path)).preset()
    assert str(path) in str(refusal.value)
    with pytest.raises(ValueError, match="not readable"):
        ClusterConfig(deepspeed_preset=str(tmp_path / "missing.json")).preset()
