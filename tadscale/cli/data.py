"""`tadscale data`: built-in data, own videos or features to shards, checks, flow ahead, previews."""

import argparse
from pathlib import Path

from rich.console import Console

from tadscale.cli.common import EXIT_FAILED, EXIT_OK, Commands, counting
from tadscale.cli.data_extract import add_extract
from tadscale.cli.data_features import add_features
from tadscale.cli.data_import import add_import
from tadscale.cli.data_index import add_index, add_reading, reading_of
from tadscale.cli.data_pack import add_pack
from tadscale.errors import UserError
from tadscale.paths import expand_home


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    data = commands.add_parser("data", help="built-in data, own videos to shards, checks").add_subparsers(
        required=True, metavar="WHAT"
    )
    sprites = data.add_parser("sprites", help="draw the built-in data as shards")
    sprites.add_argument("out", metavar="URL", help="folder or s3:// prefix")
    sprites.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in train=200")
    sprites.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    sprites.set_defaults(command=_sprites)
    add_pack(data)
    add_import(data)
    add_features(data)
    add_extract(data)
    lint = data.add_parser("lint", help="check shards and their manifest")
    lint.add_argument("url", metavar="URL", help="folder, or a brace list: s3://bucket/name-{000..127}.tar")
    lint.add_argument("--decode", action="store_true", help="decode every picture of every video")
    add_reading(lint)
    lint.set_defaults(command=_lint)
    add_index(data)
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


def _sprites(options: argparse.Namespace, console: Console) -> int:
    import yaml

    from tadscale.data.shards import write_shards
    from tadscale.data.sprites import SpritesConfig, class_names, draw_videos
    from tadscale.runtime.jobs.settings import parse_options
    from tadscale.runtime.jobs.sprites import note_settings

    config = parse_options(SpritesConfig, options.set, "--set")
    manifest = write_shards(draw_videos(config), options.out, classes=class_names(config), overwrite=options.overwrite)
    note_settings(config, options.out)  # only now: `write_shards` refuses a folder that holds other shards
    console.print(str(manifest), markup=False, highlight=False)
    console.print(yaml.safe_dump(config.model_dump(mode="json")), markup=False, highlight=False)
    return EXIT_OK


def _lint(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.lint import lint

    with counting("lint", "shards") as watch:
        report = lint(options.url, reading_of(options), decode_all=options.decode, watch=watch)
    console.print(str(report), markup=False, highlight=False)
    return EXIT_OK if report.ok else EXIT_FAILED


def _flow(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.flow_shards import write_flow
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.source import open_videos
    from tadscale.flow.motion import build_motion
    from tadscale.runtime.jobs.job_file import load_job

    job = load_job(options.job, options.set)
    if job.motion.flow_url is not None:
        raise UserError(
            f"motion.name={job.motion.name} reads flow that is there already: name the method to compute it with"
        )
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=job.data.quarantine_budget))
    with counting("flow") as watch:
        manifest = write_flow(
            open_videos(job.data.url, job.data.training_sources),
            options.out,
            build_motion(job.motion),
            job.data.window,
            device=job.cluster.motion_device,
            ledger=ledger,
            overwrite=options.overwrite,
            watch=watch,
        )
    console.print(f"{manifest}, {len(ledger)} left out", markup=False, highlight=False)
    console.print(f"use        --set motion.name=precomputed --set motion.flow_url={options.out}", markup=False)
    return EXIT_OK


def _preview(options: argparse.Namespace, console: Console) -> int:
    from tadscale.data.source import open_sources
    from tadscale.report.preview import previews
    from tadscale.runtime.jobs.job_file import load_job

    job = load_job(options.job, options.set)
    if job.data.window.features is not None:
        raise UserError(f"{options.job} reads features, of which there is nothing to see: preview a job on videos")
    training = open_sources(job.data.training_sources)
    folder = Path(expand_home(options.out))
    folder.mkdir(parents=True, exist_ok=True)
    for preview in previews(training, job.data.window, job.motion, options.videos):
        name = preview.key.replace("/", "_")
        (folder / f"{name}.mp4").write_bytes(preview.clip_mp4)
        (folder / f"{name}.png").write_bytes(preview.still_png)
        console.print(str(folder / f"{name}.mp4"), markup=False, highlight=False)
    return EXIT_OK
