"""`tadscale data import`: a public data set's own annotation files to one ActivityNet JSON, and on to shards."""

import argparse
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tadscale.cli.common import EXIT_OK
from tadscale.cli.data_pack import add_packing, pack_annotated
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.data.importers.convert import Imported

SHOWN = 3
ANNOTATIONS_NAME = "annotations.json"
"""What the JSON is called beside the shards."""


class _Help(argparse.Action):
    """Lists the data sets, which are imported for that alone: other commands start without them."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show this help, and the data sets")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from tadscale.data.importers import described_importers

        lines = (
            textwrap.fill(line, 100, initial_indent=f"  {name:20}", subsequent_indent=" " * 22)
            for name, line in described_importers().items()
        )
        parser.epilog = "data sets:\n" + "\n".join(lines)
        parser.print_help()
        parser.exit()


def add_import(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser(
        "import",
        help="a public data set's annotation files to ActivityNet JSON, and its videos to shards",
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-h", "--help", action=_Help)
    parser.add_argument("name", metavar="NAME", help="of the data set, see below")
    parser.add_argument("annotations", metavar="ANNOTATIONS", nargs="+", help="its files or folders, as published")
    parser.add_argument("--videos", metavar="FOLDER", help="its videos: they are packed, too")
    parser.add_argument(
        "--out", metavar="OUT", help="JSON file (default: NAME.json); with --videos, URL of the shards (runs/data/NAME)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the data set's")
    parser.add_argument(
        "--one-class",
        default="",
        metavar="LABEL",
        help="label all segments alike, where a classifier of whole videos is to name their classes (`tadscale rescore`)",
    )
    add_packing(parser)
    parser.set_defaults(command=import_dataset)


def import_dataset(options: argparse.Namespace, console: Console) -> int:
    """Run the command."""
    from tadscale.data.importers import importer_of
    from tadscale.data.importers.convert import import_annotations
    from tadscale.data.storage import join
    from tadscale.runtime.jobs.settings import parse_options

    if not options.videos and (options.transcode or options.budget):
        raise UserError("--transcode and --budget say how videos are packed: give their folder as --videos")
    importer = parse_options(importer_of(options.name), options.set, "--set")
    imported = import_annotations(importer, options.annotations, options.videos or "", one_class=options.one_class)
    shards = options.out or f"runs/data/{options.name}"
    url = join(shards, ANNOTATIONS_NAME) if options.videos else options.out or f"{options.name}.json"
    _write(imported, url, options.overwrite)
    console.print(_table(imported, url))
    for note in imported.notes:
        console.print(note, markup=False, highlight=False)
    if options.videos:
        pack_annotated(options, console, options.videos, url, shards)
    return EXIT_OK


def _write(imported: "Imported", url: str, overwrite: bool) -> None:
    """Write the JSON, over another file only where that is asked for: it may be the very file that was imported."""
    from tadscale.data.storage import read_text, write_bytes

    text = json.dumps(imported.document(), indent=1, ensure_ascii=False) + "\n"
    there = read_text(url)
    if there and there != text and not overwrite:
        raise UserError(f"{url} is there already, and holds something else: name another with --out, or --overwrite it")
    write_bytes(url, text.encode())


def _table(imported: "Imported", url: str) -> Table:
    table = Table(title=Text(url), title_justify="left", show_header=False)
    for subset in sorted({video.subset for video in imported.videos}):
        videos = [video for video in imported.videos if video.subset == subset]
        segments = sum(len(video.segments) for video in videos)
        background = sum(not video.segments for video in videos)
        more = f", {background} videos without any" if background else ""
        table.add_row(subset, f"{len(videos)} videos, {segments} segments{more}")
    used = {segment.label for video in imported.videos for segment in video.segments}
    table.add_row("classes", f"{len(used)} of {imported.published_classes} published")
    for kind, found in imported.corrections.items():
        different = list(dict.fromkeys(found))
        shown = [*different[:SHOWN], *(["..."] if len(different) > SHOWN else [])]
        table.add_row(Text(kind), Text("\n".join([str(len(found)), *shown])))
    if imported.corrections:
        table.add_row("all of them", Text(f"under corrections in {url}", overflow="fold"))
    return table
