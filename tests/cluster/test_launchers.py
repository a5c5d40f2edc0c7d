"""cluster/aws.yaml and cluster/gcp.yaml pass Ray's own checks, and install what the image installs."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from tadscale.runtime.cluster.stopping import GRACE_S
from tadscale.runtime.planning.kubernetes import GROUPS

ROOT = Path(__file__).resolve().parents[2]
PATHS = [ROOT / "cluster/aws.yaml", ROOT / "cluster/gcp.yaml"]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def launcher(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())


def test_ray_accepts_it(launcher: dict[str, Any]) -> None:
    """As `ray up` does before it asks the cloud: defaults filled in, then Ray's schema and rules."""
    validate_config(prepare_config(launcher))


def test_ray_refuses_a_misspelt_key(launcher: dict[str, Any]) -> None:
    wrong = copy.deepcopy(launcher)
    wrong["available_node_types"]["data-spot"]["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(wrong))


def test_no_command_of_rays_defaults_is_left(launcher: dict[str, Any]) -> None:
    """Ray merges its defaults in, and they install another Ray with the system's pip."""
    ours = {command for key, value in launcher.items() if key.endswith("_commands") for command in value}
    filled = prepare_config(launcher)
    theirs = {command for key, value in filled.items() if key.endswith("_commands") for command in value} - ours
    assert theirs == set()


TYPES = {"head", "data-spot", "data-on-demand", "motion-spot", "motion-on-demand", "train"}
CPUS = {"c7i.4xlarge": 16, "g6.4xlarge": 16, "g6e.4xlarge": 16}  # of EC2; on Compute Engine the file says them itself


def offered(node: dict[str, Any]) -> dict[str, float]:
    """What Ray counts on a node: on EC2 it adds what it knows of the instance type."""
    instance = node["node_config"].get("InstanceType")
    known = {"CPU": CPUS[instance]} | ({"GPU": 1} if instance.startswith("g") else {}) if instance in CPUS else {}
    return known | node["resources"]


def test_node_types(launcher: dict[str, Any]) -> None:
    types = launcher["available_node_types"]
    assert set(types) == TYPES
    assert types["head"]["resources"]["CPU"] == 0
    spot = {name for name, node in types.items() if "spot" in str(node["node_config"]).lower()}
    assert spot == {"data-spot", "motion-spot"}
    assert {name for name, node in types.items() if offered(node).get("GPU")} == {
        "motion-spot",
        "motion-on-demand",
        "train",
    }
    assert max(node.get("max_workers", 0) for node in types.values()) <= launcher["max_workers"]
    assert types["data-spot"]["min_workers"] == 1


def test_a_group_counts_its_nodes_cpus(launcher: dict[str, Any]) -> None:
    """As `tadscale plan --kubernetes` names them, and ClusterConfig.groups takes of them."""
    assert set(GROUPS.names) == {"data", "motion", "train"}
    for name, node in launcher["available_node_types"].items():
        if name != "head":
            assert node["resources"][name.partition("-")[0]] == offered(node)["CPU"]


@pytest.mark.parametrize("group", ["data", "motion"])
def test_on_demand_stands_in_for_spot_and_is_the_same_machine(launcher: dict[str, Any], group: str) -> None:
    spot, other = (copy.deepcopy(launcher["available_node_types"][f"{group}-{kind}"]) for kind in ("spot", "on-demand"))
    assert spot["resources"] == other["resources"]
    for config in (spot["node_config"], other["node_config"]):
        config.pop("InstanceMarketOptions", None)
        config.pop("scheduling", None)
    assert spot["node_config"] == other["node_config"]


@pytest.mark.parametrize("group", ["data", "motion"])
def test_ray_launches_spot_first_and_on_demand_where_that_failed(launcher: dict[str, Any], group: str) -> None:
    """By Ray's own scheduler, told as its monitor tells it that a node type could not be had."""
    demand = [ResourceRequestUtil.make({group: 1.0})]

    def launched(failed: dict[str, float]) -> set[str]:
        filled = copy.deepcopy(launcher)
        for node in filled["available_node_types"].values():
            node["resources"] = offered(node)
        config = AutoscalingConfig(prepare_config(filled), skip_content_hash=True)
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=launcher["max_workers"],
            resource_requests=ResourceRequestUtil.group_by_count(demand),
            recoverable_resource_availabilities=failed,
        )
        reply = ResourceDemandScheduler(None).schedule(request)
        return {one.instance_type for one in reply.to_launch if one.instance_type.startswith(group)}

    first = launched({})
    assert f"{group}-spot" in first
    assert f"{group}-on-demand" not in first
    if group == "motion":  # of data nodes one is always asked for, on spot
        assert launched({"motion-spot": 0.0}) == {"motion-on-demand"}


def test_the_image_may_stand_in_for_the_installation() -> None:
    """The lines of cluster/README.md, merged into aws.yaml: Ray accepts them, and nothing is installed twice."""
    readme = (ROOT / "cluster/README.md").read_text()
    (text,) = re.findall(r"```yaml\n(docker:.*?)```", readme, re.DOTALL)
    lines = yaml.safe_load(text)
    validate_config(prepare_config(yaml.safe_load(PATHS[0].read_text()) | lines))
    assert re.fullmatch(r"\S+/tadscale:0\.1\.0-cuda", lines["docker"]["image"])
    assert lines["setup_commands"] == []
    assert "WORKDIR /app" in (ROOT / "infra/Dockerfile").read_text()
    assert "`/app` for `~/tadscale`" in readme


def test_the_token_lies_on_every_node_and_in_no_file(launcher: dict[str, Any]) -> None:
    """Ray 2.61 asks for one of everybody. It is copied as a file that Ray reads by itself, never named in a command."""
    assert launcher["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in yaml.safe_dump(launcher)


def test_head_starts_in_the_repository_and_everyone_asks_for_the_token(launcher: dict[str, Any]) -> None:
    (repository,) = [remote for remote, local in launcher["file_mounts"].items() if local == "."]
    starts = [launcher["head_start_ray_commands"][-1], launcher["worker_start_ray_commands"][-1]]
    assert all(start.startswith(f"cd ~/{Path(repository).name} &&") for start in starts)
    assert all("RAY_AUTH_MODE=token" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_a_job_that_is_stopped_may_write_its_checkpoint(launcher: dict[str, Any]) -> None:
    """`ray job stop` sends SIGKILL 3 s after SIGTERM, unless the head was started with more."""
    (wait_s,) = re.findall(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+) ray start --head", launcher["head_start_ray_commands"][-1])
    assert int(wait_s) > GRACE_S


def test_identities_by_name_and_no_secrets(launcher: dict[str, Any]) -> None:
    for node in launcher["available_node_types"].values():
        config = node["node_config"]
        assert "IamInstanceProfile" in config or "serviceAccounts" in config
    assert not re.search(r"AKIA|PRIVATE KEY|secret", yaml.safe_dump(launcher), re.IGNORECASE)


def test_installs_what_the_image_installs(launcher: dict[str, Any]) -> None:
    """Torch first and constrained, then the rest constrained: else pip may take another build of torch."""
    installs = [re.sub(r".*pip install", "", line) for line in launcher["setup_commands"] if "pip install" in line]
    assert [line.split("constraints.txt ")[1] for line in installs] == ["torch", '-e ".[train]"']
    dockerfile = (ROOT / "infra/Dockerfile").read_text()
    torch, rest = (dockerfile.index(text) for text in (" torch\n", '".[train]"'))
    assert torch < rest
    assert dockerfile.count("-c constraints.txt") == 2


def test_both_clouds_run_the_same_commands() -> None:
    aws, gcp = (yaml.safe_load(path.read_text()) for path in PATHS)
    assert aws["setup_commands"] == gcp["setup_commands"]
