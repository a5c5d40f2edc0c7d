"""`tadscale detect` and `score`: detections of videos, and what they are worth."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tadscale.cli.allocator import keep_freed_memory
from tadscale.cli.common import EXIT_INTERRUPTED, EXIT_OK, Commands, counting, write_page
from tadscale.cli.protocol import add_protocol_to, chosen_protocol
from tadscale.errors import UserError

READABLE_SCORE = 0.1
"""What tables and timelines show if nothing else is asked for: a detector writes hundreds of detections below."""


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    detect = commands.add_parser("detect", help="find actions in videos with a registered model")
    detect.add_argument("model", metavar="MODEL", help="registered name, models:/NAME@alias, or a model's folder")
    detect.add_argument("videos", metavar="VIDEO", nargs="*", help="paths, URLs, or folders of videos")
    detect.add_argument(
        "--live",
        metavar="SOURCE",
        help="a stream instead: rtsp://HOST/STREAM, /dev/video0, a file, or - for a pipe; a line of JSON for each detection "
        "as soon as it is certain, which is at most a window after its end",
    )
    detect.add_argument(
        "--hop", metavar="FRAMES", type=int, help="of --live: from one window to the next (default as in evaluation)"
    )
    detect.add_argument(
        "--json", action="store_true", help="all detections, as ActivityNet JSON for `tadscale score -`"
    )
    detect.add_argument("--html", metavar="FILE", type=Path, help="write a timeline page too")
    detect.add_argument(
        "--min-score", type=float, help=f"leave out weaker detections (default {READABLE_SCORE}, and 0 with --json)"
    )
    detect.add_argument(
        "--top-k", type=int, help="the most detections kept of one video (default as in evaluation, 200)"
    )
    detect.add_argument("--tracking-uri", help="MLflow; default: MLFLOW_TRACKING_URI, else the demo's database")
    detect.set_defaults(command=_detect)
    score = commands.add_parser("score", help="mAP of detections, as ActivityNet JSON")
    score.add_argument("detections", metavar="DETECTIONS.json", help="a file, or - for what `detect --json` prints")
    score.add_argument("ground_truth", metavar="GROUND_TRUTH", help="ActivityNet JSON, or CSV with a column subset")
    add_protocol_to(score)
    score.add_argument("--json", action="store_true")
    score.set_defaults(command=_score)


def _detect(options: argparse.Namespace, console: Console) -> int:
    if bool(options.videos) == bool(options.live):
        raise UserError("name videos, or a stream with --live, and not both")
    if options.min_score is not None and not 0 <= options.min_score <= 1:
        raise UserError(f"--min-score {options.min_score:g} is no score: scores lie between 0 and 1")
    _refuse_ignored(options)
    keep_freed_memory()
    if options.live:
        return _detect_live(options, console)
    from tadscale.cli.detect_videos import detect, prediction_html, prediction_json, prediction_table, warnings_of
    from tadscale.runtime.tracking.track import default_store

    with counting("detecting") as watch:
        prediction = detect(
            options.model,
            options.videos,
            tracking_uri=options.tracking_uri or default_store(),
            top_k=options.top_k,
            watch=watch,
        )
    readable = READABLE_SCORE if options.min_score is None else options.min_score
    if options.html:
        write_page(options.html, prediction_html(prediction, options.model, min_score=readable))
    if options.json:
        # A figure is over all detections: without the weak ones it was 31.61 for 32.21, and 0 for a young model.
        console.out(prediction_json(prediction, min_score=options.min_score or 0.0), highlight=False)
    else:
        console.print(prediction_table(prediction, min_score=readable))
        if options.html:
            console.print(f"written: {options.html}", markup=False, highlight=False)
    if prediction.limited:
        limit = next(iter(prediction.limited.values()))
        _warn(f"only the {limit} strongest detections each of {', '.join(prediction.limited)}; more with --top-k")
    for warning in warnings_of(prediction):
        _warn(warning)
    prediction.raise_failures()
    return EXIT_OK


def _warn(words: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, emoji=False).print(f"tadscale: {words}", markup=False)


def _refuse_ignored(options: argparse.Namespace) -> None:
    """Options of videos say nothing about a stream, and the other way round. Raises `UserError`."""
    if not options.live:
        if options.hop is not None:
            raise UserError("--hop is of --live alone: windows of videos stand where evaluation has them. Leave it out")
        return
    given = {"--html": options.html, "--json": options.json or None, "--top-k": options.top_k}
    named = ", ".join(name for name, value in given.items() if value is not None)
    if named:
        raise UserError(
            f"--live takes no {named}: it prints a line of JSON for each detection, all of them from --min-score on, for as "
            "long as the stream lasts. Leave it out"
        )


def _detect_live(options: argparse.Namespace, console: Console) -> int:
    from tadscale.cli.detect_live import detect_live, live_line
    from tadscale.runtime.tracking.track import default_store

    found = detect_live(
        options.model,
        sys.stdin.buffer if options.live == "-" else options.live,
        tracking_uri=options.tracking_uri or default_store(),
        hop_frames=options.hop,
        min_score=READABLE_SCORE if options.min_score is None else options.min_score,
    )
    try:
        for detection in found:
            console.out(live_line(detection), highlight=False)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED  # the usual end of a camera's
    return EXIT_OK


def _score(options: argparse.Namespace, console: Console) -> int:
    from tadscale.report.score import piped_document, score_files, score_json, score_table

    protocol = chosen_protocol(options)
    detections = piped_document(sys.stdin.buffer) if options.detections == "-" else options.detections
    report = score_files(
        detections,
        options.ground_truth,
        subset=protocol.subset,
        tiou=protocol.tiou,
        leave_out=options.leave_out,
    )
    if options.json:
        console.out(score_json(report), highlight=False)
    else:
        console.print(score_table(report))
    return EXIT_OK
