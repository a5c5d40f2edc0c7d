"""retrain.sh as it is, in a real shell, with a `kubectl` on PATH that answers from files and notes what it was asked."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

BASE = Path(__file__).resolve().parents[2] / "infra/kubernetes/base"

# Answers: `list` (file), `create` (file with its error, absent if it works), `polls` (one line a poll, last one stays).
KUBECTL = r"""#!/bin/sh
cd "$FAKE"
printf "%s\n" "$*" >> calls
case "$*" in
*"get rayjobs "*)
    [ -f list ] || { echo "Unable to connect to the server" >&2; exit 1; }
    cat list ;;
*" create --filename -")
    cat > created.yaml
    [ ! -f create ] || { cat create >&2; exit 1; }
    echo "rayjob.ray.io created" ;;
*"get rayjob "*)
    line=$(head -n 1 polls)
    [ "$(wc -l < polls)" -le 1 ] || sed -i 1d polls
    [ "$line" != unreachable ] || { echo "Unable to connect to the server" >&2; exit 1; }
    printf %s "$line" ;;
*) echo "unexpected: $*" >&2; exit 64 ;;
esac
"""


@dataclass
class Answer:
    exit_code: int
    output: str
    created: dict | None
    calls: list[str]


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    kubectl = tmp_path / "bin/kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    (tmp_path / "list").write_text("")
    (tmp_path / "polls").write_text("Complete,SUCCEEDED\n")
    return tmp_path


def retrain(fake: Path) -> Answer:
    environment = {
        "PATH": f"{fake}/bin:{os.environ['PATH']}",
        "FAKE": str(fake),
        "NAMESPACE": "somewhere",
        "POLL_S": "0",
    }
    command = ["sh", str(BASE / "retrain.sh"), str(BASE / "rayjob.yaml")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    created = fake / "created.yaml"
    return Answer(
        ran.returncode,
        ran.stdout + ran.stderr,
        yaml.safe_load(created.read_text()) if created.exists() else None,
        (fake / "calls").read_text().splitlines(),
    )


def test_none_running_creates_the_rayjob_and_waits_for_it(fake: Path) -> None:
    (fake / "polls").write_text(",\nInitializing,\nRunning,RUNNING\nRetrying,\nRunning,RUNNING\nComplete,SUCCEEDED\n")
    answer = retrain(fake)
    assert answer.exit_code == 0, answer.output
    expected = (BASE / "rayjob.yaml").read_text().replace("distill-00000", "distill-00001")
    assert answer.created == yaml.safe_load(expected)
    assert len([call for call in answer.calls if "get rayjob distill-00001" in call]) == 6
    assert all(call.startswith("--namespace somewhere ") for call in answer.calls)


# An empty status: created, and the operator has not looked yet. ValidationFailed with a cluster: a running job was edited.
@pytest.mark.parametrize(
    "state",
    [",", "Initializing,", "Running,c", "Retrying,c", "Waiting,c", "Suspended,", "ValidationFailed,c", "Novel,c"],
)
def test_unfinished_one_is_not_joined_by_another(fake: Path, state: str) -> None:
    (fake / "list").write_text(f"distill-00001,Complete,old\ndistill-00002,{state}\n")
    answer = retrain(fake)
    assert answer.exit_code == 0
    assert "skipped" in answer.output
    assert "distill-00002" in answer.output
    assert answer.created is None
    assert len(answer.calls) == 1


def test_unfinished_one_that_was_started_by_hand_counts(fake: Path) -> None:
    (fake / "list").write_text("distill-x7k2p,Running,c\n")
    assert retrain(fake).created is None


@pytest.mark.parametrize("state", ["Complete,c", "Failed,c", "Failed,", "ValidationFailed,"])
def test_finished_ones_do_not_hinder_and_numbers_go_on(fake: Path, state: str) -> None:
    (fake / "list").write_text(f"distill-00009,{state}\ndistill-00010,Complete,c\ndistill-x7k2p,Failed,c\n")
    answer = retrain(fake)
    assert answer.exit_code == 0, answer.output
    assert answer.created is not None
    assert answer.created["metadata"]["name"] == "distill-00011"


def test_each_training_is_a_run_of_its_own(fake: Path) -> None:
    """And all attempts of one training, which KubeRay makes from the same object, are one run."""
    (fake / "list").write_text("distill-00041,Complete,c\n")
    created = retrain(fake).created
    assert created is not None
    assert created["metadata"]["name"] == "distill-00042"
    assert yaml.safe_load(created["spec"]["runtimeEnvYAML"]) == {"env_vars": {"TADSCALE_RUN": "distill-00042"}}


def test_no_answer_is_not_taken_for_none_running(fake: Path) -> None:
    (fake / "list").unlink()
    answer = retrain(fake)
    assert answer.exit_code != 0
    assert answer.created is None
    assert len(answer.calls) == 1


def test_failing_create_fails(fake: Path) -> None:
    (fake / "create").write_text('Error from server (Forbidden): rayjobs.ray.io is forbidden: User "x" cannot create\n')
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert "Forbidden" in answer.output
    assert not any("get rayjob " in call for call in answer.calls)


def test_lost_race_is_a_skip(fake: Path) -> None:
    """Two pods saw an empty list; the API server gives the name to one of them."""
    (fake / "create").write_text(
        'Error from server (AlreadyExists): error when creating "STDIN": rayjobs.ray.io "distill-00001" already exists\n'
    )
    answer = retrain(fake)
    assert answer.exit_code == 0
    assert "skipped" in answer.output


@pytest.mark.parametrize(
    "end", ["Failed,FAILED", "Failed,", "Complete,FAILED", "Complete,STOPPED", "ValidationFailed,"]
)
def test_failed_training_fails_the_pod(fake: Path, end: str) -> None:
    (fake / "polls").write_text(f"Running,RUNNING\n{end}\n")
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert "distill-00001 ended" in answer.output


def test_api_server_may_be_away_for_a_while(fake: Path) -> None:
    (fake / "polls").write_text("Running,RUNNING\n" + 19 * "unreachable\n" + "Running,RUNNING\nComplete,SUCCEEDED\n")
    assert retrain(fake).exit_code == 0


def test_api_server_away_for_good_fails(fake: Path) -> None:
    (fake / "polls").write_text("unreachable\n")
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert "lost sight" in answer.output
