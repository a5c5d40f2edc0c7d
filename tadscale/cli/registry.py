"""`tadscale registry`: versions of a registered model, and which of them is the champion."""

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tadscale.cli.common import EXIT_OK, Commands
from tadscale.cli.store import add_store_to, store_uri

if TYPE_CHECKING:
    from tadscale.runtime.models.registry import ModelVersion, Registry


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    registry = commands.add_parser("registry", help="registered models").add_subparsers(required=True, metavar="WHAT")
    for name, command, text in (
        ("list", _registry_list, "versions, the newest first: aliases, average mAP, what the gate decided"),
        ("show", _registry_show, "all of one version: scores, digests, evidence"),
        ("promote", _registry_promote, "make a version the champion"),
        ("moves", _registry_moves, "who moved the champion, when and why"),
        ("rollback", _registry_rollback, "make the former champion champion again"),
    ):
        parser = registry.add_parser(name, help=text)
        parser.add_argument("model", metavar="NAME")
        if name in ("show", "promote"):
            parser.add_argument("version", metavar="VERSION", help="its number, or an alias")
        if name in ("promote", "rollback"):
            parser.add_argument("--why", default="by hand", help="for the record")
        add_store_to(parser)
        parser.set_defaults(command=command)


def _registry_list(options: argparse.Namespace, console: Console) -> int:
    from rich.table import Table

    columns = ("version", "aliases", "registered", "job", "mode", "average mAP, %", "gate")
    table = Table(*columns, title=options.model, title_justify="left", box=None, pad_edge=False)
    for version in _registry(options).list_versions(options.model):
        tags, score = version.tags, version.metrics.get("average_mAP")
        table.add_row(
            str(version.version),
            ", ".join(version.aliases),
            _when(version),
            escape(tags.get("job", "")),
            tags.get("mode", ""),
            "" if score is None else f"{100 * score:.1f}",
            _decision(version),
        )
    console.print(table)
    return EXIT_OK


def _registry_show(options: argparse.Namespace, console: Console) -> int:
    version = _registry(options).version(options.model, options.version)
    facts = {
        "version": version.version,
        "aliases": ", ".join(version.aliases) or "none",
        "registered": _when(version),
        "run": version.run_id,
        **{name: f"{value:.4f}" for name, value in version.metrics.items()},
        **dict(sorted(version.tags.items())),
    }
    width = max(map(len, facts))
    for name, value in facts.items():  # nothing is folded or cut: digests are there to be compared
        console.print(f"{name:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK


def _when(version: "ModelVersion") -> str:
    return datetime.fromtimestamp(version.created_ms / 1e3).strftime("%Y-%m-%d %H:%M")


def _decision(version: "ModelVersion") -> str:
    """`promote against 3: +2.1 points`; empty where the gate has not seen it."""
    from tadscale.runtime.models.registry import GATE_PREFIX

    gate = {
        name.removeprefix(GATE_PREFIX): value for name, value in version.tags.items() if name.startswith(GATE_PREFIX)
    }
    if "decision" not in gate:
        return ""
    against = f" against {gate['against']}" if "against" in gate else ""
    difference = f": {100 * float(gate['difference']):+.1f} points" if "difference" in gate else ""
    return f"{gate['decision'].partition(':')[0]}{against}{difference}"


def _registry_promote(options: argparse.Namespace, console: Console) -> int:
    champion = _registry(options).promote(options.model, options.version, why=options.why)
    console.print(f"{options.model} version {champion.version} is the champion", highlight=False)
    return EXIT_OK


def _registry_rollback(options: argparse.Namespace, console: Console) -> int:
    champion = _registry(options).rollback(options.model, why=f"rollback: {options.why}")
    console.print(f"{options.model} version {champion.version} is the champion again", highlight=False)
    return EXIT_OK


def _registry_moves(options: argparse.Namespace, console: Console) -> int:
    from rich.table import Table

    table = Table("when", "from", "to", "by", "why", title=options.model, title_justify="left")
    for move in _registry(options).moves(options.model):
        table.add_row(move.at, str(move.origin or ""), str(move.target), escape(move.by), escape(move.why))
    console.print(table)
    return EXIT_OK


def _registry(options: argparse.Namespace) -> "Registry":
    from tadscale.runtime.models.registry import Registry

    return Registry(store_uri(options))
