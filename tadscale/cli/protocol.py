"""What `score` and `report` share: how to evaluate, by a protocol's name or word for word."""

import argparse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tadscale.metrics.characteristics import Buckets

NAMES = ("thumos14", "activitynet13")
"""Those of `tadscale.metrics.protocols`; named here too, so that the parser stands without numpy."""
DEFAULT_TIOU = "0.3:0.7:0.1"


class Chosen(NamedTuple):
    """What the options say."""

    subset: str
    tiou: tuple[float, ...]
    buckets: "Buckets | None"
    """Sizes of instances, where a protocol fixes them."""


def add_protocol_to(parser: argparse.ArgumentParser) -> None:
    """Add `--protocol`, `--subset`, `--tiou` and `--leave-out`."""
    parser.add_argument("--subset", help="default: the protocol's, else test")
    parser.add_argument(
        "--leave-out",
        metavar="CLASS",
        action="append",
        default=[],
        help="a class that counts on neither side (Ambiguous)",
    )
    thresholds = parser.add_mutually_exclusive_group()
    thresholds.add_argument(
        "--protocol", choices=NAMES, help="subset and tIoU of a benchmark: test .3:.1:.7, or validation .5:.05:.95"
    )
    thresholds.add_argument("--tiou", help=f"start:end:step or a list (default {DEFAULT_TIOU})")


def chosen_protocol(options: argparse.Namespace) -> Chosen:
    """Resolve what `add_protocol_to` added.

    Raises:
        UserError: the thresholds are none.
    """
    from tadscale.metrics.protocols import PROTOCOLS
    from tadscale.report.score import parse_tiou

    if options.protocol:
        named = PROTOCOLS[options.protocol]
        return Chosen(options.subset or named.subset, named.tiou, named.buckets)
    return Chosen(options.subset or "test", parse_tiou(options.tiou or DEFAULT_TIOU), None)
