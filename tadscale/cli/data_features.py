"""`tadscale data features` and `extract`: published features into shards, and features of one's own from a backbone."""

import argparse
import json

from rich.console import Console

from tadscale.cli.allocator import keep_freed_memory
from tadscale.cli.common import EXIT_OK, counting
from tadscale.cli.data_pack import packed_table
from tadscale.errors import UserError


def add_features(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser("features", help="published features (.npy) and their annotations to shards")
    parser.add_argument("features", metavar="FOLDER", help="KEY.npy for each video: rows [T, C]")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="ActivityNet JSON, or CSV: video,label,start,end")
    parser.add_argument("out", metavar="URL")
    parser.add_argument("--stride", required=True, metavar="FRAMES", help="of the video, from one row to the next")
    parser.add_argument("--offset", required=True, metavar="FRAMES", help="to the middle of row 0: half a clip")
    parser.add_argument("--video-fps", required=True, metavar="FPS", help="that the videos were read at")
    parser.add_argument(
        "--stated-fps",
        metavar="check|follow|ignore",
        help="where annotations state another rate for a video: leave it out (default), bring its rows to --video-fps, or "
        "pay no heed",
    )
    parser.add_argument("--flow", metavar="FOLDER", help="the flow features, where they are files of their own")
    parser.add_argument(
        "--rgb-channels", metavar="N", help="of files that hold RGB and flow side by side: RGB's, which come first"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    parser.add_argument("--split", metavar="A/B/C", help="shares of train, validation and test, where none are named")
    parser.add_argument("--budget", metavar="SHARE", help="of the videos that may be left out (default: 0.01)")
    parser.set_defaults(command=_features)
    extract = data.add_parser(
        "extract", help="features of a job's videos, from its backbone: files for `data features`"
    )
    extract.add_argument("job", metavar="JOB.yaml", help="on videos; model.backbone.weights, and teacher.url for flow")
    extract.add_argument("out", metavar="FOLDER", help="files that are there already are kept")
    extract.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    extract.set_defaults(command=_extract)


def _features(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.feature_pack import FeatureFiles, pack_features
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.split import parse_split
    from tadscale.runtime.jobs.settings import parse_options

    named = ("stride", "offset", "video_fps", "rgb_channels", "stated_fps")
    given = [f"{name}={getattr(options, name)}" for name in named if getattr(options, name) is not None]
    budget = [] if options.budget is None else [f"max_fraction={options.budget}"]
    with counting("packing") as watch:
        packed = pack_features(
            options.features,
            options.annotations,
            options.out,
            parse_options(FeatureFiles, given, "tadscale data features"),
            flow_directory=options.flow,
            split=parse_split(options.split) if options.split else None,
            ledger=QuarantineLedger(parse_options(QuarantineBudget, budget, "--budget")),
            overwrite=options.overwrite,
            watch=watch,
        )
    manifest = packed.manifest
    console.print(packed_table(packed))
    console.print(str(manifest), markup=False, highlight=False)
    for warning in packed.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    assert manifest.features is not None
    rows = json.dumps(manifest.features.model_dump(mode="json")).replace('"', "")
    settings = [
        f"data.url={options.out} data.window.features='{rows}' data.window.fps={manifest.features.fps!r}",
        "model.backbone='{name: features}'",
        f"motion='{{name: features, flow_url: {options.out}, feature_channels: {manifest.flow_channels}}}'",
    ]
    for line in settings if manifest.flow_channels else settings[:2]:
        console.print(f"set        {line}", markup=False, highlight=False, soft_wrap=True)
    console.print("in         a job such as jobs/thumos14/features.yaml", markup=False, highlight=False)
    return EXIT_OK


def _extract(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.feature_files import write_annotations, write_feature_files
    from tadscale.data.manifest import read_manifest
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.storage import join
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.jobs.named_models import opened_models
    from tadscale.runtime.stage.extraction import extractors

    job = load_job(options.job, options.set)
    if job.data.window.features is not None:
        raise UserError(f"{options.job} reads features already: extract those of a job on videos")
    keep_freed_memory()
    videos = read_manifest(job.data.url)
    with opened_models(job) as at_hand:
        found = extractors(at_hand)
    for name, extractor in found.items():
        ledger = QuarantineLedger(QuarantineBudget(max_fraction=job.data.quarantine_budget))
        folder = join(options.out, name)
        with counting(name) as watch:
            computed = write_feature_files(videos, folder, extractor.compute, extractor.identity, ledger, watch)
        console.print(f"{folder}: {computed} computed, {len(ledger)} left out", markup=False, highlight=False)
    annotations = join(options.out, "annotations.json")
    write_annotations(videos, annotations)
    flow = f" --flow {join(options.out, 'flow')}" if "flow" in found else ""
    rgb = found["rgb"]
    described = f"--stride {rgb.stride} --offset {rgb.offset:g} --video-fps {job.data.window.fps!r}{flow}"
    command = f"tadscale data features {join(options.out, 'rgb')} {annotations} URL {described}"
    console.print(f"next       {command}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK
