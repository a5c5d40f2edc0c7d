"""Reading whole shards: the manifest of tars that another tool wrote, and a check of any."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tadscale.data.decode import verify_video
from tadscale.data.describe import Repair, describe
from tadscale.data.manifest import Manifest, VideoRow, make_manifest, write_manifest
from tadscale.data.members import TarSample, tar_samples
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger
from tadscale.data.storage import join, list_names, open_filesystem, with_retry

Annotations = Mapping[str, Mapping[str, Any]]
READ_AHEAD_BYTES = 8 * 2**20

log = logging.getLogger(__name__)


@dataclass
class Scan:
    """What was found in a set of shards."""

    rows: list[VideoRow] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    bad: list[QuarantineEntry] = field(default_factory=list)


def build_manifest(
    url: str,
    ledger: QuarantineLedger,
    *,
    annotations: Annotations | None = None,
    classes: Iterable[str] | None = None,
) -> Manifest:
    """Make and write the manifest of WebDataset shards (`*.tar`) that another tool wrote. Reads all of every shard.

    Args:
        url: the folder of the shards.
        ledger: takes what cannot be used: damaged members, videos that do not decode, annotations that cannot be.
        annotations: by key, for shards without `KEY.json`: the `database` of an ActivityNet file.
        classes: the labels that may occur; by default those that do.

    Raises:
        ValueError: no shards, no usable video, a key that occurs twice, or an unknown label.
        QuarantineExceeded: more is unusable than the ledger's budget allows.
        StorageError: the storage cannot be reached or refuses.
    """
    scan = scan_shards(url, annotations)
    for entry in scan.bad:
        ledger.add(entry)
    ledger.check(len(scan.rows) + len(ledger))
    for repair in scan.repairs:
        log.warning("%s: %s", repair.key, repair.what)
    manifest = make_manifest(url, scan.rows, classes)
    write_manifest(manifest)
    return manifest


def scan_shards(url: str, annotations: Annotations | None = None, *, decode_all: bool = False) -> Scan:
    """Look at every video of every shard of a folder, in the order of names. One video at a time is in memory.

    Args:
        url: the folder.
        annotations: by key, for shards without `KEY.json`.
        decode_all: decode every picture, which alone finds all damage inside a video.

    Raises:
        ValueError: there is no shard.
        StorageError: the storage cannot be reached or refuses.
    """
    names = [name for name in list_names(url) if name.endswith(".tar")]
    if not names:
        raise ValueError(f"{url} holds no *.tar: the URL is wrong, or the shards are compressed (they must not be)")
    whole = Scan()
    for name in names:
        part = with_retry(partial(_scan_shard, join(url, name), annotations or {}, decode_all), join(url, name))
        whole.rows += part.rows
        whole.repairs += part.repairs
        whole.bad += part.bad
    return whole


def _scan_shard(url: str, annotations: Annotations, decode_all: bool) -> Scan:
    found, shard = Scan(), url.rsplit("/", 1)[-1]
    filesystem, path = open_filesystem(url)
    with filesystem.open(path, "rb", block_size=READ_AHEAD_BYTES) as file:
        for sample in tar_samples(file):
            try:
                if sample.fault:
                    raise DataError(sample.fault)
                row, repairs = _describe(sample, url, annotations)
                if decode_all:
                    verify_video(sample.video)
            except DataError as error:
                found.bad.append(QuarantineEntry(shard, sample.key, error.reason, "scan"))
            else:
                found.rows.append(row)
                found.repairs += repairs
    return found


def _describe(sample: TarSample, url: str, annotations: Annotations) -> tuple[VideoRow, list[Repair]]:
    if sample.note is None:
        annotation = annotations.get(sample.key)
    else:
        try:
            annotation = json.loads(sample.note)
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a million brackets
            raise DataError(f"{sample.key}.json is not JSON: {error}") from error
    if not isinstance(annotation, Mapping):
        raise DataError(f"no annotation: neither a {sample.key}.json beside the video nor an entry for its key")
    if sample.video_offset < 0:
        raise DataError("an annotation without a video beside it")
    return describe(sample.key, sample.video, annotation, url, sample.video_offset)
