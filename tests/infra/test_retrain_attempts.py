"""The way of exit code 75, from a job's end to the CronJob's Job: the manifests' policy, retrain.sh, and Ray's words.

A stand-in for Kubernetes' Job controller makes pods by the rules of retrain-cronjob.yaml. Each is retrain.sh in a real
shell; what it creates is run by a `ray` on PATH, which says of the job's exit code what Ray says.
"""

import ast
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tadscale.cli.common import EXIT_FAILED, EXIT_OK, EXIT_PREEMPTED
from tests.infra.kubectl import BASE, KUBECTL, RUN, install, retrain

JOB = yaml.safe_load((BASE / "retrain-cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]
RAYJOB = yaml.safe_load((BASE / "rayjob.yaml").read_text())

# Takes the next exit code, notes the run, and leaves in `polls` and `list` what KubeRay makes of it.
RAY = r"""#!/bin/sh
code=$(head -n 1 exits)
sed -i 1d exits
run=$(sed -n 's/.*TADSCALE_RUN: "\(.*\)".*/\1/p' created.yaml)
name=$(sed -n 's/^  name: //p' created.yaml)
echo "$run" >> runs
if [ "$code" = 0 ]; then
    echo "Complete,SUCCEEDED," > polls
    echo "$name,Complete,c,$run,SUCCEEDED,2026-01-01T00:00:00Z" >> list
else
    said=$(sed "s/CODE/$code/" "message-$(($(wc -l < runs) % 2))")
    printf '%s\n' "Running,RUNNING," "Running,FAILED,$said" "Failed,FAILED,$said" > polls
    echo "$name,Failed,c,$run,FAILED,2026-01-01T00:00:00Z" >> list
fi
"""


def said_by_ray(code: str) -> list[str]:
    """Ray's message of a job that ended with an exit code, out of its own source: with log lines, and without."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    source = (Path(ray.origin).parent / "dashboard/modules/job/job_supervisor.py").read_text()
    texts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)]
    ours = [text for text in texts if "failed with exit code" in ast.unparse(text)]
    return [eval(compile(ast.Expression(text), "ray", "eval"), {"return_code": code}) for text in ours]


@dataclass
class Ended:
    """What became of a Job."""

    complete: bool
    pods: int
    runs: list[str]


def run_job(fake: Path) -> Ended:
    """A Job's pods, one after the other, until one has success, too many fail, or one is of no use to try again."""
    counted = pods = 0
    while True:
        code = retrain(fake).exit_code
        pods += 1
        rule = next((rule for rule in JOB["podFailurePolicy"]["rules"] if code in codes(rule)), {"action": "Count"})
        counted += code != 0 and rule["action"] == "Count"
        if code == 0 or rule["action"] == "FailJob" or counted > JOB["backoffLimit"]:
            return Ended(code == 0, pods, (fake / "runs").read_text().split())


def codes(rule: dict[str, Any]) -> list[int]:
    return rule.get("onExitCodes", {}).get("values", [])


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    install(tmp_path, "kubectl", KUBECTL)
    install(tmp_path, "ray", RAY)
    (tmp_path / "list").write_text("")
    for number, message in enumerate(said_by_ray("CODE")):
        # Two lines of log behind it, of which one speaks of 75.
        (tmp_path / f"message-{number}").write_text(message.strip() + r"\nfailed with exit code 75, \nbye")
    return tmp_path


def job_exits(fake: Path, *codes: int) -> None:
    (fake / "exits").write_text("".join(f"{code}\n" for code in codes))


def test_ray_says_the_exit_code_in_these_words() -> None:
    assert len(said_by_ray("75")) == 2
    script = (BASE / "retrain.sh").read_text()
    (words,) = re.findall(r'Failed,FAILED,"(.*)"\[,\.\]\*\)', script)
    assert words.endswith(f" {EXIT_PREEMPTED}")
    for message in said_by_ray(str(EXIT_PREEMPTED)):
        assert re.match(re.escape(words) + "[,.]", message)


def test_preempted_as_often_as_it_may_be_it_goes_on(fake: Path) -> None:
    job_exits(fake, *[EXIT_PREEMPTED] * 7, EXIT_OK)
    ended = run_job(fake)
    assert ended.complete
    assert ended.runs == [RUN] * 8
    assert ended.pods == 8


def test_failures_are_counted(fake: Path) -> None:
    job_exits(fake, *[EXIT_FAILED] * 5)
    ended = run_job(fake)
    assert not ended.complete
    assert ended.runs == [RUN] * 3


def test_preemptions_among_failures_are_not(fake: Path) -> None:
    p, f = EXIT_PREEMPTED, EXIT_FAILED
    job_exits(fake, p, f, p, p, f, p, EXIT_OK)
    ended = run_job(fake)
    assert ended.complete
    assert ended.runs == [RUN] * 7


@pytest.mark.parametrize("code", [7, 175, 750, 143])
def test_no_other_code_is_taken_for_75(fake: Path, code: int) -> None:
    """Nor a line of its log that speaks of 75."""
    job_exits(fake, *[code] * 5)
    assert len(run_job(fake).runs) == 3


def test_stopped_by_a_person_is_not_started_again(fake: Path) -> None:
    (fake / "polls").write_text("Complete,STOPPED,\n")
    (fake / "runs").write_text("")
    assert run_job(fake) == Ended(complete=False, pods=1, runs=[])


def test_kuberay_does_not_retry_beside_the_job() -> None:
    """It would count 75 as a failure. Pods are final: the policy needs `Never`."""
    assert RAYJOB["spec"]["backoffLimit"] == 0
    assert JOB["template"]["spec"]["restartPolicy"] == "Never"
    assert {rule["action"]: codes(rule) for rule in JOB["podFailurePolicy"]["rules"] if codes(rule)} == {
        "FailJob": [2],
        "Ignore": [EXIT_PREEMPTED],
    }


def test_pod_that_is_evicted_is_not_counted() -> None:
    disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert disruption in JOB["podFailurePolicy"]["rules"]
