"""All probes in order: the machine, the services, and for a job every check that it must pass."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tadscale.runtime.cluster.address import LOCAL
from tadscale.runtime.cluster.capacity import address_of
from tadscale.runtime.jobs.doctor import machine, services
from tadscale.runtime.jobs.doctor.probe import Answer, Line, ask
from tadscale.runtime.jobs.job_file import load_job
from tadscale.runtime.jobs.preflight.checks import Check, applicable, findings
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.stage.job import JobConfig

CHECK_S = 120.0


def examine(path: str | Path | None = None, overrides: list[str] | None = None) -> Iterator[Line]:
    """Ask the machine and its services, one line at a time, as they answer.

    Args:
        path: of a job file: then its services are asked, and whether it would run to its end. By default those that the
            environment names (`RAY_ADDRESS`, `MLFLOW_TRACKING_URI`, `AWS_ENDPOINT_URL`).
        overrides: of the job's settings, as `--set` takes them.
    """
    yield ask("packages", machine.packages)
    yield ask("machine", machine.machine)
    yield ask("GPUs", machine.gpus)
    yield ask("object store", machine.object_store)
    jobs: list[JobConfig] = []
    if path is not None:
        yield ask("job file", partial(_read, path, overrides or [], jobs))
    facts = Facts(jobs[0]) if jobs else None
    yield ask("cluster", partial(services.cluster, _address(facts)), within_s=40.0)
    yield from _services(facts)
    if facts is not None:
        told: dict[str, str] = {}
        for check in applicable(facts, services=True):
            yield ask(f"job: {check.name}", partial(_checked, check, facts, told), within_s=CHECK_S)


def _read(path: str | Path, overrides: list[str], jobs: list[JobConfig]) -> Answer:
    jobs.append(load_job(path, overrides))
    return Answer("ok", f"{path}: {jobs[0].kind} {jobs[0].name}")


def _address(facts: Facts | None) -> str:
    return address_of(facts.job.cluster) if facts else os.environ.get("RAY_ADDRESS") or LOCAL


def _services(facts: Facts | None) -> Iterator[Line]:
    """The tracking store and the storage, and the clocks of those that speak HTTP."""
    uri = _tracking_uri(facts)
    experiment = facts.job.tracking.experiment if facts else None
    if uri:
        yield ask("tracking store", partial(services.tracking, uri, experiment))
    if facts is not None:
        yield ask("storage", partial(services.storage, facts.job.storage), within_s=90.0)
    for name, url in (("tracking store", uri), ("S3", _endpoint())):
        if url.startswith(("http://", "https://")):
            yield ask(f"clock of {name}", partial(services.clock, url))


def _tracking_uri(facts: Facts | None) -> str:
    """Of the job or the environment; empty where neither names one, of which the job's own check tells."""
    try:
        return facts.tracking_uri if facts else os.environ.get("MLFLOW_TRACKING_URI", "")
    except ValueError:
        return ""


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _checked(check: Check, facts: Facts, told: dict[str, str]) -> Answer:
    """Ask a check. What an earlier one stumbled over already is `told` there, and named here by that check."""
    says = []
    for fault in findings(check, facts):
        first = told.setdefault(fault, check.name)
        says.append(fault if first == check.name else f"as {first} above")
    return Answer("fail", "; ".join(says)) if says else Answer("ok", "")
