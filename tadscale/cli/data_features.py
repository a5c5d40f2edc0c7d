"""`tadscale data features`: published features and their annotations, into shards."""

import argparse
import json

from rich.console import Console

from tadscale.cli.common import EXIT_OK
from tadscale.cli.data_pack import packed_table


def add_features(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser("features", help="published features (.npy) and their annotations to shards")
    parser.add_argument("features", metavar="FOLDER", help="KEY.npy for each video: rows [T, C]")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="ActivityNet JSON, or CSV: video,label,start,end")
    parser.add_argument("out", metavar="URL")
    parser.add_argument("--stride", required=True, metavar="FRAMES", help="of the video, from one row to the next")
    parser.add_argument("--offset", required=True, metavar="FRAMES", help="to the middle of row 0: half a clip")
    parser.add_argument("--video-fps", required=True, metavar="FPS", help="that the videos were read at")
    parser.add_argument("--flow", metavar="FOLDER", help="the flow features, where they are files of their own")
    parser.add_argument(
        "--rgb-channels", metavar="N", help="of files that hold RGB and flow side by side: RGB's, which come first"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    parser.add_argument("--split", metavar="A/B/C", help="shares of train, validation and test, where none are named")
    parser.add_argument("--budget", metavar="SHARE", help="of the videos that may be left out (default: 0.01)")
    parser.set_defaults(command=_features)


def _features(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.feature_pack import FeatureFiles, pack_features
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.split import parse_split
    from tadscale.runtime.jobs.settings import parse_options

    named = ("stride", "offset", "video_fps", "rgb_channels")
    given = [f"{name}={getattr(options, name)}" for name in named if getattr(options, name) is not None]
    budget = [] if options.budget is None else [f"max_fraction={options.budget}"]
    packed = pack_features(
        options.features,
        options.annotations,
        options.out,
        parse_options(FeatureFiles, given, "tadscale data features"),
        flow_directory=options.flow,
        split=parse_split(options.split) if options.split else None,
        ledger=QuarantineLedger(parse_options(QuarantineBudget, budget, "--budget")),
        overwrite=options.overwrite,
    )
    manifest = packed.manifest
    console.print(packed_table(packed))
    console.print(str(manifest), markup=False, highlight=False)
    for warning in packed.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    assert manifest.features is not None
    rows = json.dumps(manifest.features.model_dump(mode="json")).replace('"', "")
    settings = [
        f"data.window.features='{rows}' data.window.fps={manifest.features.fps!r}",
        "model.backbone.name=features",
        f"motion.name=features motion.flow_url={options.out} motion.feature_channels={manifest.flow_channels}",
    ]
    for line in settings if manifest.flow_channels else settings[:2]:
        console.print(f"set        {line}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK
