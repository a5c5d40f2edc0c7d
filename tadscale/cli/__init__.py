"""The command line. Heavy packages are imported by the command that needs them: `tadscale score` starts in a second."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from tadscale.runtime.models.registry import Registry

EXIT_OK, EXIT_FAILED = 0, 1
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run the same command again and it goes on
DEMO_STORE = Path("runs/mlflow.db")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    A mistake of the user (`ValueError`) and a fault of files or storage (`OSError`) end with their message on stderr and
    exit code 1; anything else is a fault of ours and keeps its traceback.
    """
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return options.command(options, _console())
    except (ValueError, OSError) as error:
        errors.print(f"tadscale: {error}", style="red", markup=False)
        return EXIT_FAILED


def _console() -> Console:
    """Where output goes. A log file has no width: 120 columns hold every table here, 80 would fold them."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tadscale", description="RGB-only temporal action detectors by distillation")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_jobs(commands)
    _add_data(commands)
    _add_detections(commands)
    _add_registry(commands)
    return parser


def _add_jobs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, command, text in (
        ("run", _run, "run a job file"),
        ("validate", _validate, "check a job file and show it as resolved"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("job", metavar="JOB.yaml")
        parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
        parser.set_defaults(command=command)
    plan = commands.add_parser("plan", help="what a job would take, from rates measured here; runs nothing")
    plan.add_argument("job", metavar="JOB.yaml")
    plan.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting")
    plan.add_argument("--cpus", type=int, metavar="N", help="CPUs of the cluster (default: this machine's)")
    plan.set_defaults(command=_plan)
    schema = commands.add_parser("schema", help="print the JSON Schema of job files, for editors")
    schema.set_defaults(command=_schema)


def _add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    data = commands.add_parser("data", help="built-in data, own videos to shards, checks").add_subparsers(
        required=True, metavar="WHAT"
    )
    sprites = data.add_parser("sprites", help="draw the built-in data as shards")
    sprites.add_argument("out", metavar="URL", help="folder or s3:// prefix")
    sprites.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in train=200")
    sprites.set_defaults(command=_sprites)
    pack = data.add_parser("pack", help="own videos and ActivityNet JSON to shards")
    pack.add_argument("videos", metavar="FOLDER")
    pack.add_argument("annotations", metavar="ANNOTATIONS.json")
    pack.add_argument("out", metavar="URL")
    pack.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    pack.add_argument("--transcode", action="append", default=[], metavar="KEY=VALUE", help="re-encode, as in fps=10")
    pack.set_defaults(command=_pack)
    lint = data.add_parser("lint", help="check shards and their manifest")
    lint.add_argument("url", metavar="URL")
    lint.add_argument("--decode", action="store_true", help="decode every picture of every video")
    lint.add_argument("--write", action="store_true", help="write the manifest of shards that have none")
    lint.set_defaults(command=_lint)
    flow = data.add_parser("flow", help="compute a job's flow ahead, as shards for motion.name=precomputed")
    flow.add_argument("job", metavar="JOB.yaml")
    flow.add_argument("out", metavar="URL")
    flow.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    flow.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    flow.set_defaults(command=_flow)
    preview = data.add_parser("preview", help="clips of what a job's teacher sees: frames, motion, temporal gradient")
    preview.add_argument("job", metavar="JOB.yaml")
    preview.add_argument("out", metavar="FOLDER")
    preview.add_argument("--videos", type=int, default=4, metavar="N", help="how many (default: 4)")
    preview.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    preview.set_defaults(command=_preview)


def _add_detections(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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


def _add_registry(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    registry = commands.add_parser("registry", help="registered models").add_subparsers(required=True, metavar="WHAT")
    for name, command, text in (
        ("list", _registry_list, "versions, aliases and scores"),
        ("promote", _registry_promote, "make a version the champion"),
        ("rollback", _registry_rollback, "make the former champion champion again"),
    ):
        parser = registry.add_parser(name, help=text)
        parser.add_argument("model", metavar="NAME")
        if name == "promote":
            parser.add_argument("version", metavar="VERSION")
        parser.add_argument("--tracking-uri")
        parser.set_defaults(command=command)


def _run(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.stage.job import load_job

    job = load_job(options.job, options.set)
    from tadscale.runtime.jobs.run_job import run_job
    from tadscale.runtime.training.launch import Preempted, TrainingFailed

    try:
        run_job(job, console)
    except Preempted as stop:
        console.print(f"preempted: {stop}", markup=False)
        return EXIT_PREEMPTED
    except TrainingFailed as failure:
        console.print(f"failed: {failure}", markup=False)
        return EXIT_FAILED
    return EXIT_OK


def _validate(options: argparse.Namespace, console: Console) -> int:
    import yaml

    from tadscale.runtime.stage.job import load_job

    job = load_job(options.job, options.set)
    console.print(yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False), markup=False, highlight=False)
    return EXIT_OK


def _plan(options: argparse.Namespace, console: Console) -> int:
    from tadscale.runtime.planning.forecast import forecast, stage_modes
    from tadscale.runtime.planning.rates import measure_rates
    from tadscale.runtime.planning.tables import forecast_lines, forecast_table
    from tadscale.runtime.stage.job import load_job

    job = load_job(options.job, options.set)
    modes = stage_modes(job)
    if not modes:
        raise ValueError(
            f"{options.job} only evaluates: there is no training to plan; name a job of kind distill or teacher"
        )
    cpus = options.cpus or os.cpu_count() or 1
    rates, windows = measure_rates(job, modes)
    expected = forecast(job, windows, rates, cpus)
    console.print(forecast_table(expected))
    for line in forecast_lines(expected):
        console.print(line, markup=False, highlight=False)
    return EXIT_OK


def _schema(options: argparse.Namespace, console: Console) -> int:
    import json

    from tadscale.runtime.stage.job import job_schema

    console.print(json.dumps(job_schema(), indent=1), markup=False, highlight=False)
    return EXIT_OK


def _sprites(options: argparse.Namespace, console: Console) -> int:
    import yaml

    from tadscale.data.shards import write_shards
    from tadscale.data.sprites import SpritesConfig, class_names, draw_videos
    from tadscale.runtime.jobs.sprites import note_settings

    config = SpritesConfig.model_validate(_settings(options.set))
    manifest = write_shards(draw_videos(config), options.out, classes=class_names(config))
    note_settings(config, options.out)  # only now: `write_shards` refuses a folder that holds other shards
    console.print(str(manifest), markup=False, highlight=False)
    console.print(yaml.safe_dump(config.model_dump(mode="json")), markup=False, highlight=False)
    return EXIT_OK


def _pack(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.pack import Transcode, pack

    settings = _settings(options.transcode)
    transcode = Transcode.model_validate(settings) if settings else None
    manifest = pack(options.videos, options.annotations, options.out, transcode=transcode, overwrite=options.overwrite)
    console.print(str(manifest), markup=False, highlight=False)
    return EXIT_OK


def _lint(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.lint import lint
    from tadscale.data.quarantine import QuarantineLedger
    from tadscale.data.scan import build_manifest

    if options.write:
        build_manifest(options.url, QuarantineLedger())
    report = lint(options.url, decode_all=options.decode)
    console.print(str(report), markup=False, highlight=False)
    return EXIT_OK if report.ok else EXIT_FAILED


def _flow(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.flow_shards import write_flow
    from tadscale.data.manifest import read_manifest
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.flow.motion import build_motion
    from tadscale.runtime.stage.job import load_job

    job = load_job(options.job, options.set)
    if job.motion.flow_url is not None:
        raise ValueError("motion.name=precomputed reads flow that is there already: name the method to compute it with")
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=job.data.quarantine_budget))
    manifest = write_flow(
        read_manifest(job.data.url),
        options.out,
        build_motion(job.motion),
        job.data.window,
        device=job.cluster.motion_device,
        ledger=ledger,
        overwrite=options.overwrite,
    )
    console.print(f"{manifest}, {len(ledger)} left out", markup=False, highlight=False)
    console.print(f"use        --set motion.name=precomputed --set motion.flow_url={options.out}", markup=False)
    return EXIT_OK


def _preview(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.manifest import read_manifest
    from tadscale.report.preview import previews
    from tadscale.runtime.stage.job import load_job

    job = load_job(options.job, options.set)
    manifest = read_manifest(job.data.url).subset(job.data.train_subset)
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    for preview in previews(manifest, job.data.window, job.motion, options.videos):
        name = preview.key.replace("/", "_")
        (folder / f"{name}.mp4").write_bytes(preview.clip_mp4)
        (folder / f"{name}.png").write_bytes(preview.still_png)
        console.print(str(folder / f"{name}.mp4"), markup=False, highlight=False)
    return EXIT_OK


def _settings(overrides: list[str]) -> dict[str, object]:
    """`KEY=VALUE` arguments as a tree of settings."""
    from tadscale.runtime.stage.job import apply_override

    settings: dict[str, object] = {}
    for override in overrides:
        apply_override(settings, override)
    return settings


def _detect(options: argparse.Namespace, console: Console) -> int:
    from tadscale.cli.detect import detect, prediction_html, prediction_json, prediction_table

    prediction = detect(options.model, options.videos, tracking_uri=options.tracking_uri or _demo_store())
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


def _registry_list(options: argparse.Namespace, console: Console) -> int:
    from rich.table import Table

    table = Table("version", "aliases", "metrics", "tags", title=options.model, title_justify="left")
    for version in _registry(options).list_versions(options.model):
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in sorted(version.metrics.items()))
        tags = "\n".join(f"{name} {value[:40]}" for name, value in sorted(version.tags.items()))
        table.add_row(str(version.version), ", ".join(version.aliases), metrics, tags)
    console.print(table)
    return EXIT_OK


def _registry_promote(options: argparse.Namespace, console: Console) -> int:
    champion = _registry(options).promote(options.model, options.version)
    console.print(f"{options.model} version {champion.version} is the champion", highlight=False)
    return EXIT_OK


def _registry_rollback(options: argparse.Namespace, console: Console) -> int:
    champion = _registry(options).rollback(options.model)
    console.print(f"{options.model} version {champion.version} is the champion again", highlight=False)
    return EXIT_OK


def _registry(options: argparse.Namespace) -> "Registry":
    from tadscale.runtime.models.registry import Registry

    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _demo_store()
    if uri is None:
        raise ValueError("no MLflow store: give --tracking-uri or set MLFLOW_TRACKING_URI (sqlite:///runs/mlflow.db)")
    return Registry(uri)


def _demo_store() -> str | None:
    """The database that a job with local storage under `runs/` leaves, if nothing else is named and it is there."""
    if os.environ.get("MLFLOW_TRACKING_URI") or not DEMO_STORE.exists():
        return None
    return f"sqlite:///{DEMO_STORE.absolute()}"


if __name__ == "__main__":
    sys.exit(main())
