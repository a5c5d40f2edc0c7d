"""`tadscale data pack`: one's own videos and their annotations, into shards, and what became of each."""

import argparse
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tadscale.cli.common import EXIT_OK, counting

if TYPE_CHECKING:
    from tadscale.data.pack import Packed
    from tadscale.data.quarantine import QuarantineLedger

SHOWN = 3


def add_pack(data: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = data.add_parser("pack", help="own videos and their annotations to shards")
    parser.add_argument("videos", metavar="FOLDER", help="subfolders are searched, too")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="ActivityNet JSON, or CSV: video,label,start,end")
    parser.add_argument("out", metavar="URL")
    parser.add_argument(
        "--split",
        metavar="A/B/C",
        help="shares of train, validation and test, for videos whose annotations name no subset",
    )
    add_packing(parser)
    parser.set_defaults(command=pack)


def add_packing(parser: argparse.ArgumentParser) -> None:
    """The options that say how videos are packed; `pack_annotated` reads them."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is already there")
    parser.add_argument("--transcode", action="append", default=[], metavar="KEY=VALUE", help="re-encode, as in fps=10")
    parser.add_argument(
        "--budget", metavar="SHARE", help="share of the annotated videos that may be left out (default: 0.01)"
    )


def pack(options: argparse.Namespace, console: Console) -> int:
    """Run the command."""
    from tadscale.data.split import parse_split

    split = parse_split(options.split) if options.split else None
    pack_annotated(options, console, options.videos, options.annotations, options.out, split)
    return EXIT_OK


def pack_annotated(
    options: argparse.Namespace,
    console: Console,
    videos: str,
    annotations: str,
    out: str,
    split: tuple[float, float, float] | None = None,
) -> None:
    """Pack a folder of videos as `add_packing`'s options say, and tell what became of each.

    Raises:
        UserError, QuarantineExceeded, StorageError: see `tadscale.data.pack.pack`.
    """
    from tadscale.data.pack import pack
    from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
    from tadscale.data.transcode import Transcode
    from tadscale.runtime.jobs.settings import parse_options

    given = [] if options.budget is None else [f"max_fraction={options.budget}"]
    with counting("packing") as watch:
        packed = pack(
            videos,
            annotations,
            out,
            transcode=parse_options(Transcode, options.transcode, "--transcode") if options.transcode else None,
            split=split,
            ledger=QuarantineLedger(parse_options(QuarantineBudget, given, "--budget")),
            overwrite=options.overwrite,
            watch=watch,
        )
    console.print(packed_table(packed))
    console.print(str(packed.manifest), markup=False, highlight=False)
    for warning in packed.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def packed_table(packed: "Packed") -> Table:
    """What was packed, what was left out and why."""
    manifest = packed.manifest
    table = Table(title=Text(manifest.url), title_justify="left", show_header=False)
    table.add_row("packed", f"{len(manifest)} videos")
    if len(packed.ledger):
        table.add_row("left out", Text("\n".join([f"{len(packed.ledger)}", *_reasons(packed.ledger)])))
        table.add_row("all reasons", Text(packed.ledger_url))
    if packed.strangers:
        more = ", ..." if len(packed.strangers) > SHOWN else ""
        names = ", ".join(packed.strangers[:SHOWN]) + more
        table.add_row("not annotated", Text(f"{len(packed.strangers)} files: {names}"))
    return table


def _reasons(ledger: "QuarantineLedger") -> list[str]:
    """The first reasons of each kind. Two are of a kind if they differ by names and numbers only."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for entry in ledger:
        reason = entry.reason.replace(entry.key, "")
        kinds[re.sub(r"'[^']*'|\S*\d\S*|did you mean.*", "", reason)].append(f"{entry.key}: {entry.reason}")
    lines = []
    for reasons in sorted(kinds.values(), key=len, reverse=True):
        lines += reasons[:SHOWN] + (
            [f"... and {len(reasons) - SHOWN} more of this kind"] if len(reasons) > SHOWN else []
        )
    return lines
