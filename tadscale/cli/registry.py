"""`tadscale registry`: versions of a registered model, and which of them is the champion."""

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tadscale.cli.common import EXIT_OK, Commands
from tadscale.cli.store import add_store_to, store_uri

if TYPE_CHECKING:
    from tadscale.runtime.models.registry import Registry


def add_to(commands: Commands) -> None:
    """Add these commands to the parser."""
    registry = commands.add_parser("registry", help="registered models").add_subparsers(required=True, metavar="WHAT")
    for name, command, text in (
        ("list", _registry_list, "versions, aliases and scores"),
        ("promote", _registry_promote, "make a version the champion"),
        ("moves", _registry_moves, "who moved the champion, when and why"),
        ("rollback", _registry_rollback, "make the former champion champion again"),
    ):
        parser = registry.add_parser(name, help=text)
        parser.add_argument("model", metavar="NAME")
        if name == "promote":
            parser.add_argument("version", metavar="VERSION")
        if name in ("promote", "rollback"):
            parser.add_argument("--why", default="by hand", help="for the record")
        add_store_to(parser)
        parser.set_defaults(command=command)


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
