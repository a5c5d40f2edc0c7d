"""Make untrimmed videos of real footage and real motion that lie beside the repository.

    python -m benchmarks.real {ball,mocap,mocap-scene} --data FOLDER --out FOLDER [--train N] [--seed N] ...

DATA holds `ucf9/` and `mocap/`; OUT receives `videos/` and `annotations.json`, for `tadscale data pack`. See the README
beside this file.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.real import ball, mocap
from benchmarks.real.dataset import balance, write_dataset
from benchmarks.real.vocabularies import MOTIONS_ALONE, MOTIONS_IN_SCENES
from tadscale.config import Config
from tadscale.data.shards import VideoSample


class Kind(NamedTuple):
    """One data set that can be made."""

    settings: type[Config]
    draw: Callable[[Path, Any], Iterator[VideoSample]]
    what: str


KINDS = {
    "ball": Kind(ball.BallConfig, ball.draw_videos, "annotated basketball among other sports"),
    "mocap": Kind(
        mocap.MocapConfig,
        lambda data, config: mocap.draw_videos(data, config, MOTIONS_ALONE),
        "ten recorded motions over real scenes",
    ),
    "mocap-scene": Kind(
        mocap.MocapConfig,
        lambda data, config: mocap.draw_videos(data, config, MOTIONS_IN_SCENES),
        "four recorded motions times three kinds of scene",
    ),
}


def parser() -> argparse.ArgumentParser:
    """A subcommand a kind; its options are the fields of its settings."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.real", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="kind", required=True)
    for name, kind in KINDS.items():
        command = commands.add_parser(name, help=kind.what, description=kind.what)
        command.add_argument("--data", type=Path, required=True, help="folder that holds ucf9/ and mocap/")
        command.add_argument("--out", type=Path, required=True, help="folder to write to")
        for field, info in kind.settings.model_fields.items():
            option = f"--{field.replace('_', '-')}"
            text = f"{info.description} Default: {info.default}."
            command.add_argument(option, dest=field, default=argparse.SUPPRESS, help=text.replace("%", "%%"))
    return top


def main(arguments: list[str] | None = None) -> None:
    """Make one data set and say what is in it."""
    options = vars(parser().parse_args(arguments))
    kind, data, out = KINDS[options.pop("kind")], options.pop("data"), options.pop("out")
    console, started = Console(), time.monotonic()
    try:
        database = write_dataset(kind.draw(data, kind.settings.model_validate(options)), out)
    except ValueError as error:
        parser().error(str(error))
    console.print(balance(database))
    console.print(f"{out}: {len(database)} videos in {time.monotonic() - started:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
