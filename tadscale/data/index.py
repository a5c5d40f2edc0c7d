"""The manifest of shards that another WebDataset pipeline wrote."""

import logging
from collections import Counter
from typing import NamedTuple

from tadscale.data.manifest import Manifest, make_manifest, write_manifest
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.scan import Reading, find_shards, folder_of, scan_shards
from tadscale.data.watched import Watch, unwatched

log = logging.getLogger(__name__)


class Index(NamedTuple):
    """What indexing made of a set of shards."""

    manifest: Manifest
    repaired: int
    """Segments that were clipped or left out; the log names them."""
    passed_over: Counter[str]
    """Members that are neither a video nor a sidecar, by suffix."""


def index_shards(url: str, ledger: QuarantineLedger, reading: Reading | None = None, watch: Watch = unwatched) -> Index:
    """Make the manifest of shards and write it beside them. Reads all of every shard, and changes none.

    Args:
        url: the folder of the shards, or a brace list of them (see `find_shards`).
        ledger: takes what cannot be used: damaged members, videos that do not decode, annotations that are not understood.
        reading: how to understand the shards; by default as our own.
        watch: told after each shard how many are done.

    Raises:
        ValueError: no shards, no usable video, a key that occurs twice, or an unknown label.
        QuarantineExceeded: more is unusable than the ledger's budget allows.
        StorageError: the storage cannot be reached or refuses.
    """
    reading = reading or Reading()
    shards = find_shards(url)
    scan = scan_shards(shards, reading, watch=watch)
    for entry in scan.bad:
        ledger.add(entry)
    ledger.check(len(scan.rows) + len(ledger))
    for repair in scan.repairs:
        log.warning("%s: %s", repair.key, repair.what)
    for warning in scan.suspicions.warnings():
        log.warning("%s", warning)
    manifest = make_manifest(folder_of(shards[0]), scan.rows, reading.classes)
    write_manifest(manifest)
    return Index(manifest, len(scan.repairs), scan.passed_over)
