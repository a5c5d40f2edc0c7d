"""`tadscale detect` and `score`: detections of videos, and what they are worth."""

import argparse
from pathlib import Path

from rich.console import Console

from tadscale.cli.common import EXIT_OK, Commands, demo_store


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    detect = commands.add_parser("detect", help="find actions in videos with a registered model")
    detect.add_argument("model", metavar="MODEL", help="registered name, models:/NAME@alias, or a model's folder")
    detect.add_argument("videos", metavar="VIDEO", nargs="+", help="paths or URLs")
    detect.add_argument("--json", action="store_true", help="ActivityNet JSON instead of a table")
    detect.add_argument("--html", metavar="FILE", type=Path, help="write a timeline page too")
    detect.add_argument("--min-score", type=float, default=0.1, help="leave out weaker detections (default 0.1)")
    detect.add_argument("--tracking-uri", help="MLflow; default: MLFLOW_TRACKING_URI, else the demo's database")
    detect.set_defaults(command=_detect)
    score = commands.add_parser("score", help="mAP of detections, both files ActivityNet JSON")
    score.add_argument("detections", metavar="DETECTIONS.json")
    score.add_argument("ground_truth", metavar="GROUND_TRUTH.json")
    score.add_argument("--subset", default="test")
    score.add_argument("--tiou", default="0.3:0.7:0.1", help="start:end:step or a list (default 0.3:0.7:0.1)")
    score.add_argument("--json", action="store_true")
    score.set_defaults(command=_score)


def _detect(options: argparse.Namespace, console: Console) -> int:
    from tadscale.cli.detect_videos import detect, prediction_html, prediction_json, prediction_table

    prediction = detect(options.model, options.videos, tracking_uri=options.tracking_uri or demo_store())
    if options.html:
        options.html.write_text(prediction_html(prediction, options.model, min_score=options.min_score))
    if options.json:
        console.print(
            prediction_json(prediction, min_score=options.min_score), markup=False, highlight=False, soft_wrap=True
        )
    else:
        console.print(prediction_table(prediction, min_score=options.min_score))
    prediction.raise_failures()
    return EXIT_OK


def _score(options: argparse.Namespace, console: Console) -> int:
    from tadscale.report.score import parse_tiou, score_files, score_json, score_table

    report = score_files(options.detections, options.ground_truth, subset=options.subset, tiou=parse_tiou(options.tiou))
    if options.json:
        console.print(score_json(report), markup=False, highlight=False)
    else:
        console.print(score_table(report))
    return EXIT_OK
