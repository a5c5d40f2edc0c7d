"""`tadscale data index`: the manifest of shards that other WebDataset pipelines wrote."""

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tadscale.cli.common import counting
from tadscale.errors import UserError

if TYPE_CHECKING:
    from tadscale.data.index import Index
    from tadscale.data.quarantine import QuarantineLedger
    from tadscale.data.scan import Reading

SHOWN = 5


def add_index(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser("index", help="make the manifest of shards that another WebDataset pipeline wrote")
    parser.add_argument("url", metavar="URL", help="folder, or a brace list: s3://bucket/name-{000..127}.tar")
    add_reading(parser)
    parser.set_defaults(command=index)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options that say how shards are to be understood."""
    parser.add_argument("--annotations", metavar="FILE", help="ActivityNet JSON by key, for shards without sidecars")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line: the first is number 0")
    parser.add_argument("--subset", default="", help="of videos that do not say (default: a word of the shard's name)")
    parser.add_argument("--video-suffix", metavar="SUFFIX", help="which of several videos of a key: left.mp4")
    parser.add_argument("--unlabelled", action="store_true", help="take the videos without annotations")


def reading_of(options: argparse.Namespace) -> "Reading":
    """What those options say.

    Raises:
        UserError: a file is not of its form.
        StorageError: a file cannot be read.
    """
    from tadscale.data.annotations import read_database
    from tadscale.data.scan import Reading

    annotations: Mapping[str, Any] = {}
    if options.annotations:
        annotations = read_database(options.annotations)
    return Reading(
        annotations=annotations,
        classes=_classes(options.classes) if options.classes else None,
        subset=options.subset,
        video_suffix=options.video_suffix,
        labelled=not options.unlabelled,
    )


def _classes(url: str) -> tuple[str, ...]:
    """The names of a class list, one a line. Raises `UserError` where it is none."""
    from tadscale.data.json_text import read_annotation_bytes

    try:
        lines = read_annotation_bytes(url).decode("utf-8-sig").splitlines()  # editors on Windows write the mark
    except UnicodeDecodeError as error:
        raise UserError(f"{url} is not text in UTF-8 (byte {error.start}): save the class list as UTF-8") from None
    classes = tuple(line.strip() for line in lines if line.strip())
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if not classes or twice:
        raise UserError(f"{url}: {f'{twice[0]!r} is in it twice' if twice else 'no class in it'}")
    return classes


def index(options: argparse.Namespace, console: Console) -> int:
    """Run the command."""
    from tadscale.data.index import index_shards
    from tadscale.data.quarantine import QuarantineLedger

    ledger = QuarantineLedger()
    with counting("indexing", "shards") as watch:
        found = index_shards(options.url, ledger, reading_of(options), watch)
    console.print(_table(found, ledger))
    return 0


def _table(shards: "Index", ledger: "QuarantineLedger") -> Table:
    manifest = shards.manifest
    subsets = Counter(row.subset for row in manifest.rows)
    table = Table(title=Text(manifest.url), title_justify="left", show_header=False)
    table.add_row("videos", f"{len(manifest)} ({', '.join(f'{name} {n}' for name, n in sorted(subsets.items()))})")
    if not all(row.labelled for row in manifest.rows):
        table.add_row("labelled", "no: train on them with labelled: false")
    table.add_row("segments", f"{sum(len(row.labels) for row in manifest.rows)} ({shards.repaired} mended)")
    table.add_row("classes", f"{len(manifest.classes)}")
    reasons = [f"{entry.shard}: {entry.key}: {entry.reason}" for entry in list(ledger)[:SHOWN]]
    table.add_row("left out", Text("\n".join([f"{len(ledger)}", *reasons])))  # Text: brackets in a reason are no markup
    members = ", ".join(f"{suffix or '(no suffix)'} {count}" for suffix, count in shards.passed_over.most_common(SHOWN))
    table.add_row("members passed over", f"{shards.passed_over.total()}" + (f" ({members})" if members else ""))
    return table
