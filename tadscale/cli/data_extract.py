"""`tadscale data extract`, and the first half of `features` of a job: features of one's own from a backbone."""

import argparse
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from tadscale.cli.allocator import keep_freed_memory
from tadscale.cli.common import EXIT_OK, counting
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.runtime.stage.extraction import Extractor
    from tadscale.runtime.stage.job import JobConfig


class Extracted(NamedTuple):
    """Files of features, as `data features` packs them."""

    rgb: str
    """Their folder."""
    flow: str | None
    """That of the flow features, where there are any."""
    annotations: str
    made_by: "Extractor"
    """What made those of RGB."""


def add_extract(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser("extract", help="features of a job's videos, from its backbone: files for `data features`")
    parser.add_argument("job", metavar="JOB.yaml", help="on videos; model.backbone.weights, and teacher.url for flow")
    parser.add_argument("out", metavar="FOLDER", help="files that are there already are kept")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    parser.set_defaults(command=_extract)


def _extract(options: argparse.Namespace, console: Console) -> int:
    done = extract_features(job_on_videos(options.job, options.set), options.out, console)
    flow = f" --flow {done.flow}" if done.flow else ""
    command = f"tadscale data features {done.rgb} {done.annotations} URL{flow}"
    console.print(f"next       {command}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK


def job_on_videos(path: str, overrides: list[str]) -> "JobConfig":
    """The job of a file. Raises `UserError` where it reads features itself."""
    from tadscale.runtime.jobs.job_file import load_job

    job = load_job(path, overrides)
    if job.data.window.features is not None:
        raise UserError(f"{path} reads features already: extract those of a job on videos")
    return job


def extract_features(job: "JobConfig", out: str, console: Console) -> Extracted:
    """Write the features of a job's videos under a folder, those that are not there yet. Raises as its parts do."""
    from tadscale.data.feature_files import write_annotations, write_feature_files
    from tadscale.data.manifest import read_manifest
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.storage import join
    from tadscale.runtime.jobs.named_models import opened_models
    from tadscale.runtime.stage.extraction import extractors

    keep_freed_memory()
    videos = read_manifest(job.data.url)
    with opened_models(job) as at_hand:
        found = extractors(at_hand, job.model.backbone.weights)
    for name, made_by in found.items():
        ledger = QuarantineLedger(QuarantineBudget(max_fraction=job.data.quarantine_budget))
        folder = join(out, name)
        with counting(name) as watch:
            computed = write_feature_files(
                videos, folder, made_by.compute, made_by.identity, ledger, watch, made_by.beside
            )
        console.print(f"{folder}: {computed} computed, {len(ledger)} left out", markup=False, highlight=False)
    annotations = join(out, "annotations.json")
    write_annotations(videos, annotations)
    return Extracted(join(out, "rgb"), join(out, "flow") if "flow" in found else None, annotations, found["rgb"])
