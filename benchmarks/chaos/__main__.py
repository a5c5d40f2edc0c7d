"""Disturb a training at random, and hold what it leaves against the undisturbed run.

    python -m benchmarks.chaos [--minutes 6] [--epochs 60] [--seed 0] [--report FILE.md]

The job is run twice by the real command, on two Ray nodes of `cluster/local.py` and on S3 (moto behind a proxy): once in
peace, then with faults for so many minutes, then to its end. `faults.py` has what is done to processes; the proxy meanwhile
lets 2 % of all requests fail, each in one of eight ways. At the end every step must be in the log once, of the plan's
positions, and losses, gradient norms and the trained weights must be those of the undisturbed run to the bit. The exit code
is 1 if they are not. The seed decides the order of faults and their distances; what each one meets depends on the moment.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chaos.compare import differences
from benchmarks.chaos.faults import KINDS, Scene, Schedule
from benchmarks.chaos.job import MODE, PREEMPTED, Driver, settings
from benchmarks.chaos.nodes import LocalNodes
from benchmarks.chaos.proxy import FaultyProxy
from benchmarks.chaos.report import Ended, Event, Report
from benchmarks.s3 import s3_bucket
from tadscale.data.storage import join, read_text
from tadscale.network import read_spec
from tadscale.runtime.jobs.settings import build_settings
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.plan_spec import open_plan
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.training.checkpoints import CheckpointStore

SHARE = 0.02  # of requests that meet a fault
POLL_S = 0.5
FAILURES = 5  # ends that nobody asked for, before this gives up
TO_THE_END_S = 600.0  # without faults


def main(argv: list[str] | None = None) -> int:
    """Train in peace and under faults, and report; 1 where the two runs differ or something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="for how long faults come, from the first checkpoint on"
    )
    parser.add_argument("--epochs", type=int, default=60, help="length of the plan, in epochs of 8 steps")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--report", type=Path, help="write the report here, too")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, storage(arguments.seed) as (url, proxy):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        nodes, job = (
            LocalNodes(Path(folder, "cluster")),
            settings(join(url, "runs"), join(url, "data"), arguments.epochs),
        )
        with nodes.running() as addresses:
            environment = {**os.environ, **addresses}
            peace_s = in_peace(Driver(Path(folder), job, "undisturbed", environment))
            scene = Scene(
                Driver(Path(folder), job, "disturbed", environment), nodes, proxy, random.Random(arguments.seed)
            )
            report = disturb(scene, stage_named(job, "disturbed"), arguments.minutes * 60)
        proxy.share = 0.0
        report = finish(report, job, arguments.seed, peace_s)
    text = report.markdown()
    if arguments.report:
        arguments.report.write_text(text)
    sys.stdout.write(text)
    return 1 if report.faults_found else 0


@contextmanager
def storage(seed: int) -> Iterator[tuple[str, FaultyProxy]]:
    """A bucket behind the proxy, which lets all pass for now; the environment leads to it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside a busy machine, hardly any time
    with s3_bucket() as bucket:
        proxy = FaultyProxy(bucket.endpoint, seed=seed)
        with proxy.serving() as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            yield bucket.url, proxy


def stage_named(job: dict[str, Any], name: str) -> Stage:
    """The stage that a run of this name trains."""
    return stage_of(build_settings(JobConfig, {**job, "name": name}, "chaos"), MODE)


def in_peace(driver: Driver) -> float:
    """Run the job to its end; the seconds that it took."""
    started = time.monotonic()
    try:
        driver.start()
        while driver.poll() is None:
            time.sleep(POLL_S)
            if time.monotonic() > started + TO_THE_END_S:
                raise TimeoutError(f"the undisturbed run does not end: {driver.last_words()}")
        if driver.poll():
            raise RuntimeError(f"the undisturbed run failed: {driver.last_words()}")
    finally:
        driver.end()
    return time.monotonic() - started


def disturb(scene: Scene, stage: Stage, seconds: float) -> Report:
    """Run the job to its end, with faults for some time, and the same command again whenever it ended.

    Args:
        scene: whom the faults meet.
        stage: what the job trains.
        seconds: for which faults come, from the first checkpoint on.
    """
    report, schedule, started = Report(), Schedule(scene.chance), time.monotonic()
    over_s = math.inf
    scene.proxy.share = SHARE
    scene.driver.start()
    try:
        while (code := scene.driver.poll()) != 0:
            now_s, step = time.monotonic() - started, newest_checkpoint(stage)
            if step and over_s == math.inf:
                over_s = now_s + seconds
            if code is not None:
                report.ends.append(Ended(now_s, code, scene.driver.last_words()))
                give_up_after_failures(report)
                scene.driver.start()
            elif now_s > over_s:
                scene.proxy.share = 0.0
            elif kind := schedule.due(step, now_s):
                report.events.append(Event(now_s, step, kind, KINDS[kind](scene)))
            if now_s > min(over_s, TO_THE_END_S) + TO_THE_END_S:
                raise TimeoutError(f"the disturbed run does not end: {scene.driver.last_words()}")
            time.sleep(POLL_S)
    finally:
        scene.driver.end()
    report.seconds, report.starts = time.monotonic() - started, scene.driver.starts
    report.met, report.requests = scene.proxy.met, scene.proxy.requests
    return report


def give_up_after_failures(report: Report) -> None:
    """Killed and told to stop are what was asked for; other ends are not."""
    unasked = [end for end in report.ends if end.code not in (-9, PREEMPTED)]
    if len(unasked) > FAILURES:
        raise RuntimeError(f"the job fails again and again, at last with:\n{unasked[-1].last_words}")


def newest_checkpoint(stage: Stage) -> int:
    """Step of the newest checkpoint, complete or not; 0 while there is none."""
    return max(CheckpointStore(stage.checkpoints_url).steps(), default=0)


def finish(report: Report, job: dict[str, Any], seed: int, peace_s: float) -> Report:
    """Compare the two runs."""
    stages = [stage_named(job, name) for name in ("disturbed", "undisturbed")]
    _, plan = open_plan(stages[0].plan)
    report.seed, report.peace_s, report.steps = seed, peace_s, plan.total_steps
    report.positions = plan.total_steps * plan.global_batch
    log, undisturbed = (read_text(stage.log_url) for stage in stages)
    report.faults_found = differences(log, undisturbed, plan.total_steps, plan.global_batch)
    weights = [read_spec(stage.weights_url).weights_sha256 for stage in stages]
    if weights[0] != weights[1]:
        report.faults_found.append("the trained weights are not the undisturbed run's")
    return report


if __name__ == "__main__":
    sys.exit(main())
