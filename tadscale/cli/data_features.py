"""`tadscale data features`: published features into shards, or those that a job's backbone makes of its videos."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tadscale.cli.common import EXIT_OK, counting
from tadscale.cli.data_extract import extract_features, job_on_videos
from tadscale.cli.data_pack import packed_table
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.data.feature_pack import FeatureFiles
    from tadscale.data.pack import Packed
    from tadscale.data.quarantine import QuarantineLedger

ROWS = ("stride", "offset", "video_fps")
OF_FILES = (*ROWS, "stated_fps", "flow", "rgb_channels", "split")
EXTRACTED = "extracted"
"""Folder beside shards, with the files that they are packed from."""


def add_features(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser(
        "features",
        help="features (.npy) and their annotations to shards: FOLDER ANNOTATIONS URL; or a job's own: JOB.yaml URL",
    )
    parser.add_argument(
        "features",
        metavar="FOLDER|JOB.yaml",
        help="KEY.npy for each video: rows [T, C]. Or a job on videos, whose features are extracted as by `extract`",
    )
    parser.add_argument(
        "annotations", metavar="ANNOTATIONS", help="ActivityNet JSON, or CSV: video,label,start,end; not of a job"
    )
    parser.add_argument("out", metavar="URL", nargs="?", help="of the shards")
    known = "; what `extract` made says it itself"
    parser.add_argument("--stride", metavar="FRAMES", help=f"of the video, from one row to the next{known}")
    parser.add_argument("--offset", metavar="FRAMES", help=f"to the middle of row 0: half a clip{known}")
    parser.add_argument("--video-fps", metavar="FPS", help=f"that the videos were read at{known}")
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
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting of the job")
    parser.set_defaults(command=_features)


def _features(options: argparse.Namespace, console: Console) -> int:
    packed = _of_job(options, console) if options.out is None else _of_files(options)
    console.print(packed_table(packed))
    console.print(str(packed.manifest), markup=False, highlight=False)
    for warning in packed.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    _say_settings(packed, console)
    return EXIT_OK


def _of_files(options: argparse.Namespace) -> "Packed":
    from tadscale.data.feature_pack import pack_features
    from tadscale.data.split import parse_split

    if options.set:
        raise UserError("--set overrides a setting of a job, and FOLDER ANNOTATIONS URL name none: leave it out")
    files = _described(options)
    with counting("packing") as watch:
        return pack_features(
            options.features,
            options.annotations,
            options.out,
            files,
            flow_directory=options.flow,
            split=parse_split(options.split) if options.split else None,
            ledger=_ledger(options.budget),
            overwrite=options.overwrite,
            watch=watch,
        )


def _of_job(options: argparse.Namespace, console: Console) -> "Packed":
    """Extract and pack. Interrupted it goes on; shards that are something else's are refused before anything is computed."""
    from tadscale.data.feature_pack import FeatureFiles, pack_features
    from tadscale.data.shards import shards_in
    from tadscale.data.storage import join, list_folders, same_place

    if given := [name for name in OF_FILES if getattr(options, name) is not None]:
        raise UserError(
            f"--{given[0].replace('_', '-')} is said of files, which come as FOLDER ANNOTATIONS URL; two places are "
            f"JOB.yaml URL, and {options.features} says it all: name three places, or leave it out"
        )
    if Path(options.features).is_dir():
        raise UserError(
            f"{options.features} is a folder: name its annotations and the shards' URL behind it, both of them"
        )
    job, url = job_on_videos(options.features, options.set), options.annotations
    if same_place(job.data.url, url):
        raise UserError(f"{url} holds the videos: write their features to another folder")
    shards_in(url, overwrite=options.overwrite or EXTRACTED in list_folders(url))
    done = extract_features(job, join(url, EXTRACTED), console)
    budget = job.data.quarantine_budget if options.budget is None else options.budget
    files = FeatureFiles(stride=done.made_by.stride, offset=done.made_by.offset, video_fps=job.data.window.fps)
    with counting("packing") as watch:
        return pack_features(
            done.rgb,
            done.annotations,
            url,
            files,
            flow_directory=done.flow,
            ledger=_ledger(budget),
            overwrite=True,
            watch=watch,
        )


def _ledger(share: float | str | None) -> "QuarantineLedger":
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.runtime.jobs.settings import parse_options

    return QuarantineLedger(
        parse_options(QuarantineBudget, [] if share is None else [f"max_fraction={share}"], "--budget")
    )


def _described(options: argparse.Namespace) -> "FeatureFiles":
    """What a row of the files is: as given, else as what `extract` left beside them says."""
    from tadscale.data.extractor_spec import read_extractor_spec
    from tadscale.data.feature_pack import FeatureFiles
    from tadscale.runtime.jobs.settings import parse_options

    made_by = read_extractor_spec(options.features)
    values = {name: getattr(options, name) for name in (*ROWS, "rgb_channels", "stated_fps")}
    for name in ROWS:
        if values[name] is None and made_by is not None:
            values[name] = repr(getattr(made_by.rows, name))
    if missing := [f"--{name.replace('_', '-')}" for name in ROWS if values[name] is None]:
        raise UserError(
            f"{', '.join(missing)}: not given, and nothing in {options.features} says how its features were made; their "
            "source does, as in docs/data.md"
        )
    given = [f"{name}={value}" for name, value in values.items() if value is not None]
    return parse_options(FeatureFiles, given, "tadscale data features")


def _say_settings(packed: "Packed", console: Console) -> None:
    """What a job on the shards sets."""
    manifest = packed.manifest
    assert manifest.features is not None
    rows = json.dumps(manifest.features.model_dump(mode="json")).replace('"', "")
    settings = [
        f"data.url={manifest.url} data.window.features='{rows}' data.window.fps={manifest.features.fps!r}",
        "model.backbone='{name: features}'",
        f"motion='{{name: features, flow_url: {manifest.url}, feature_channels: {manifest.flow_channels}}}'",
    ]
    for line in settings if manifest.flow_channels else settings[:2]:
        console.print(f"set        {line}", markup=False, highlight=False, soft_wrap=True)
    console.print("in         a job such as jobs/thumos14/features.yaml", markup=False, highlight=False)
