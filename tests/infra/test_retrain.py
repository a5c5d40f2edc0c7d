"""retrain.sh as it is, in a real shell: one attempt, with a `kubectl` on PATH that answers from files."""

import json
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.infra.kubectl import BASE, COMMAND, JOB_NAME, KUBECTL, RUN, environment, install, retrain

TODAY = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    install(tmp_path, "kubectl", KUBECTL)
    (tmp_path / "list").write_text("")
    (tmp_path / "polls").write_text("Complete,SUCCEEDED,\n")
    return tmp_path


def listed(name: str, state: str, cluster: str = "c", run: str = "another", job: str = "", created: str = TODAY) -> str:
    return f"{name},{state},{cluster},{run},{job},{created}\n"


def test_none_running_creates_the_rayjob_and_waits_for_it(fake: Path) -> None:
    (fake / "polls").write_text(",,\nInitializing,,\nRunning,RUNNING,\nRunning,RUNNING,\nComplete,SUCCEEDED,\n")
    answer = retrain(fake)
    assert answer.exit_code == 0, answer.output
    expected = (BASE / "rayjob.yaml").read_text().replace("distill-00000", "distill-00001").replace("run-00000", RUN)
    assert answer.created == yaml.safe_load(expected)
    assert len([call for call in answer.calls if "get rayjob distill-00001" in call]) == 5
    assert all(call.startswith("--namespace somewhere ") for call in answer.calls)


@pytest.mark.parametrize(("said", "creates"), [("nothing to do", False), ("train", True)])
def test_where_nothing_is_new_no_rayjob_is_created(fake: Path, said: str, creates: bool) -> None:
    (fake / "answer").write_text(f"{said}\n")
    answer = retrain(fake, ANSWER=str(fake / "answer"))
    assert answer.exit_code == 0, answer.output
    assert (answer.created is not None) == creates
    assert ("no RayJob is created" in answer.output) == (not creates)


def test_an_answer_that_is_not_there_is_a_failure_and_not_a_reason_to_train(fake: Path) -> None:
    answer = retrain(fake, ANSWER=str(fake / "answer"))
    assert answer.exit_code == 1
    assert answer.created is None


def test_a_rayjob_of_this_job_is_waited_for_whatever_the_answer(fake: Path) -> None:
    (fake / "answer").write_text("nothing to do\n")
    (fake / "list").write_text(listed("distill-00007", "Complete", run=RUN, job="SUCCEEDED"))
    answer = retrain(fake, ANSWER=str(fake / "answer"))
    assert answer.exit_code == 0
    assert "distill-00007 succeeded" in answer.output


# Empty: created, and the operator has not looked yet. Novel: of a later version of KubeRay.
@pytest.mark.parametrize("state", ["", "Initializing", "Running", "Retrying", "Waiting", "Novel"])
def test_another_at_work_is_not_joined(fake: Path, state: str) -> None:
    (fake / "list").write_text(listed("distill-00001", "Complete") + listed("distill-00002", state))
    answer = retrain(fake)
    assert answer.exit_code == 0
    assert "skipped" in answer.output
    assert "distill-00002" in answer.output
    assert answer.created is None
    assert len(answer.calls) == 1


def test_another_that_was_started_by_hand_counts(fake: Path) -> None:
    (fake / "list").write_text(listed("distill-x7k2p", "Running", run=""))
    answer = retrain(fake)
    assert answer.exit_code == 0
    assert answer.created is None


# ValidationFailed with a cluster: it was edited while it ran, and KubeRay looks at it no more.
@pytest.mark.parametrize("state", ["Suspended", "Suspending", "ValidationFailed"])
def test_another_that_does_not_go_on_is_a_failure_and_not_a_skip(fake: Path, state: str) -> None:
    """It would block all retraining for ever, with Jobs that all look well."""
    (fake / "list").write_text(listed("distill-00001", "Running") + listed("distill-00002", state))
    answer = retrain(fake)
    assert answer.exit_code == 2
    assert f"blocked by distill-00002 ({state}, of {TODAY})" in answer.output
    assert "delete it" in answer.output
    assert answer.created is None


@pytest.mark.parametrize("state", ["", "Running", "Novel"])
@pytest.mark.parametrize(("days", "exit_code"), [(2.5, 0), (3.5, 2)])
def test_another_that_outlasts_its_deadlines_is_a_failure(fake: Path, state: str, days: float, exit_code: int) -> None:
    created = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (fake / "list").write_text(listed("distill-00001", state, created=created))
    answer = retrain(fake)
    assert answer.exit_code == exit_code
    assert answer.created is None


# ValidationFailed without a cluster: refused before it began.
@pytest.mark.parametrize("end", ["Complete,c", "Failed,c", "Failed,", "ValidationFailed,"])
def test_finished_ones_do_not_hinder_and_numbers_go_on(fake: Path, end: str) -> None:
    state, cluster = end.split(",")
    others = listed("distill-00010", "Complete", created="2020-01-01T00:00:00Z") + listed("distill-x7k2p", "Failed")
    (fake / "list").write_text(listed("distill-00009", state, cluster) + others)
    answer = retrain(fake)
    assert answer.exit_code == 0, answer.output
    assert answer.created is not None
    assert answer.created["metadata"]["name"] == "distill-00011"


def patched(fake: Path, **patches: str) -> Path:
    """A folder as the pod mounts it, with an overlay's patches."""
    folder = fake / "mounted"
    folder.mkdir()
    for name in ("retrain.sh", "rayjob.yaml"):
        shutil.copy(BASE / name, folder)
    for name, text in patches.items():
        (folder / f"rayjob-{name}.yaml").write_text(text)
    return folder


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_patches_of_overlays_are_applied_in_the_order_of_their_names(fake: Path) -> None:
    one, other = (f"- {{op: replace, path: /spec/entrypoint, value: jobs/{name}.yaml}}" for name in "ab")
    answer = retrain(fake, patched(fake, b=other, a=one))
    assert answer.exit_code == 0, answer.output
    assert answer.created is not None
    assert answer.created["spec"]["entrypoint"] == "jobs/b.yaml"
    assert answer.created["metadata"]["name"] == "distill-00001"
    assert answer.created["metadata"]["labels"]["tadscale-run"] == RUN


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_a_patch_that_does_not_fit_creates_nothing_and_says_so(fake: Path) -> None:
    group = "/spec/rayClusterSpec/workerGroupSpecs/0/groupName"
    (fake / "create").write_text("error: no objects passed to create\n")  # what kubectl says of an empty file
    answer = retrain(fake, patched(fake, wrong=f"- {{op: test, path: {group}, value: train}}"))
    assert answer.exit_code == 1
    assert answer.created is None
    assert "testing value" in answer.output


def test_an_image_of_the_site_replaces_ours_in_every_pod(fake: Path) -> None:
    image = "registry.example.com/team/tadscale:0.1.0-cuda@sha256:" + "0" * 64
    created = retrain(fake, IMAGE=image).created
    assert created is not None
    text = json.dumps(created)
    assert text.count(image) == 5  # submitter, head, three groups
    assert '"tadscale:' not in text


@pytest.mark.parametrize(("queue", "code"), [("tadscale", 0), ("", 2)])
def test_what_waits_in_a_queue_is_at_work_and_what_a_person_suspended_blocks(fake: Path, queue: str, code: int) -> None:
    (fake / "list").write_text(listed("distill-00003", "Suspended").strip() + f",{queue}\n")
    answer = retrain(fake)
    assert answer.exit_code == code, answer.output
    assert answer.created is None


def test_runs_differ_even_where_finished_rayjobs_are_deleted(fake: Path) -> None:
    """KubeRay can delete them with their clusters: numbers begin again, and a run that is finished trains nothing."""
    first = retrain(fake, JOB_NAME="retrain-by-hand", JOB_UID="0a1b2c3d-0000-4000-8000-000000000000").created
    again = retrain(fake, JOB_NAME="retrain-by-hand", JOB_UID="4e5f6a7b-0000-4000-8000-000000000000").created
    assert first is not None
    assert again is not None
    assert first["metadata"]["name"] == again["metadata"]["name"] == "distill-00001"
    assert yaml.safe_load(first["spec"]["runtimeEnvYAML"]) == {"env_vars": {"TADSCALE_RUN": "retrain-by-hand-0a1b2c3d"}}
    assert yaml.safe_load(again["spec"]["runtimeEnvYAML"]) == {"env_vars": {"TADSCALE_RUN": "retrain-by-hand-4e5f6a7b"}}


def test_name_of_a_run_is_a_label_whatever_the_job_is_called(fake: Path) -> None:
    """Kubernetes takes 63 characters, as many as a Job's name may have by itself."""
    created = retrain(fake, JOB_NAME="j" * 63).created
    assert created is not None
    run = created["metadata"]["labels"]["tadscale-run"]
    assert run == "j" * 54 + "-1f2e3d4c"
    assert len(run) == 63
    assert yaml.safe_load(created["spec"]["runtimeEnvYAML"])["env_vars"]["TADSCALE_RUN"] == run


@pytest.mark.parametrize("state", ["", "Running", "Suspended"])
def test_own_rayjob_is_found_again_when_the_pod_was_evicted(fake: Path, state: str) -> None:
    (fake / "list").write_text(listed("distill-00007", "Suspended") + listed("distill-00008", state, run=RUN))
    answer = retrain(fake)
    assert answer.exit_code == 0, answer.output
    assert answer.created is None
    assert "get rayjob distill-00008" in answer.calls[-1]


def test_own_success_that_no_pod_saw_is_a_success(fake: Path) -> None:
    ended = listed("distill-00003", "Complete", run=RUN, job="SUCCEEDED")
    (fake / "list").write_text(listed("distill-00002", "Failed", run=RUN, job="FAILED") + ended)
    answer = retrain(fake)
    assert answer.exit_code == 0
    assert answer.created is None


def test_no_answer_is_not_taken_for_none_running(fake: Path) -> None:
    (fake / "list").unlink()
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert answer.created is None
    assert len(answer.calls) == 1


# AlreadyExists: two pods saw an empty list, and the API server gave the name to one of them. The other's next attempt
# finds it in the list; where it does not (its label is gone), all attempts fail, instead of a skip each week.
@pytest.mark.parametrize("reason", ['(Forbidden): User "x" cannot create', '(AlreadyExists): "distill-00001" already'])
def test_failing_create_is_a_failed_attempt(fake: Path, reason: str) -> None:
    (fake / "create").write_text(f"Error from server {reason}\n")
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert reason in answer.output
    assert not any("get rayjob " in call for call in answer.calls)


@pytest.mark.parametrize("end", ["Failed,FAILED,", "Failed,,", "Failed,RUNNING,The RayJob has passed its deadline"])
def test_failed_attempt_may_be_tried_again(fake: Path, end: str) -> None:
    (fake / "polls").write_text(f"Running,RUNNING,\n{end}\n")
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert f"distill-00001 failed: distill-00001,{end}" in answer.output


@pytest.mark.parametrize("end", ["Complete,STOPPED,", "ValidationFailed,,name too long", "deleted"])
def test_what_a_person_has_to_look_at_is_not_tried_again(fake: Path, end: str) -> None:
    (fake / "polls").write_text(f"Running,RUNNING,\n{end}\n")
    answer = retrain(fake)
    assert answer.exit_code == 2
    assert "distill-00001 " in answer.output


def test_api_server_may_be_away_for_a_while(fake: Path) -> None:
    (fake / "polls").write_text("Running,RUNNING,\n" + 19 * "unreachable\n" + "Running,RUNNING,\nComplete,SUCCEEDED,\n")
    assert retrain(fake).exit_code == 0


def test_api_server_away_for_good_fails(fake: Path) -> None:
    (fake / "polls").write_text("unreachable\n")
    answer = retrain(fake)
    assert answer.exit_code == 1
    assert "lost sight" in answer.output


def test_evicted_pod_ends_at_once(fake: Path) -> None:
    """Between two polls too, and as process 1, which ignores SIGTERM unless it says otherwise."""
    (fake / "polls").write_text("Running,RUNNING,\n")
    waiting = subprocess.Popen(COMMAND, env=environment(fake, POLL_S="10"), stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert RUN in waiting.stdout.readline()
    time.sleep(0.2)  # it begins to wait
    began_s = time.monotonic()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=15) == 143
    assert time.monotonic() - began_s < 5


def test_pods_of_one_job_share_a_run_and_say_so(fake: Path) -> None:
    first, second = retrain(fake), retrain(fake)
    assert first.created == second.created
    assert f"run {RUN}" in first.output
    assert JOB_NAME in RUN
