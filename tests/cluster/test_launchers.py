"""cluster/aws.yaml and cluster/gcp.yaml pass Ray's own checks, and install what the image installs."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tadscale.runtime.cluster.stopping import GRACE_S

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
    wrong["available_node_types"]["data"]["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(wrong))


def test_no_command_of_rays_defaults_is_left(launcher: dict[str, Any]) -> None:
    """Ray merges its defaults in, and they install another Ray with the system's pip."""
    ours = {command for key, value in launcher.items() if key.endswith("_commands") for command in value}
    filled = prepare_config(launcher)
    theirs = {command for key, value in filled.items() if key.endswith("_commands") for command in value} - ours
    assert theirs == set()


def test_node_types(launcher: dict[str, Any]) -> None:
    types = launcher["available_node_types"]
    assert set(types) == {"head", "data", "train"}
    assert types["head"]["resources"]["CPU"] == 0
    spot = {name: "spot" in str(node["node_config"]).lower() for name, node in types.items()}
    assert spot == {"head": False, "data": True, "train": False}
    assert sum(node.get("max_workers", 0) for node in types.values()) == launcher["max_workers"]


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
