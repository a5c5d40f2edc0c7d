"""`tadscale rescore`: detections weighed by what a classifier says of whole videos."""

import argparse
import json
import sys

from rich.console import Console

from tadscale.cli.common import EXIT_OK, Commands

TOP_K = 2
"""Classes of a video that are kept if nothing else is asked for: the convention for THUMOS14; for ActivityNet 1 or 2."""


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    rescore = commands.add_parser(
        "rescore", help="multiply detections by class scores of whole videos; prints JSON for `tadscale score -`"
    )
    rescore.add_argument("detections", metavar="DETECTIONS.json", help="a file, or - for what `detect --json` prints")
    rescore.add_argument("video_scores", metavar="VIDEO_SCORES.json", help="of the ActivityNet classification task")
    rescore.add_argument("--top-k", type=int, default=TOP_K, help=f"best classes of each video (default {TOP_K})")
    rescore.set_defaults(command=_rescore)


def _rescore(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.annotations import detections_document, parse_detections, read_document
    from tadscale.data.video_scores import read_video_scores
    from tadscale.metrics.video_scores import with_video_scores
    from tadscale.report.score import piped_document

    piped = options.detections == "-"
    document = piped_document(sys.stdin.buffer) if piped else read_document(options.detections)
    detections = parse_detections(document.content, document.url)
    weighed = with_video_scores(detections, read_video_scores(options.video_scores), options.top_k)
    console.out(json.dumps(detections_document(weighed)), highlight=False)
    return EXIT_OK
