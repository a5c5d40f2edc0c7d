"""Reading whole shards, of our own or of other tools: what is in them, and what cannot be used."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from tadscale.data.annotations import normal_subset
from tadscale.data.decode import probe_video, still_spans, verify_video
from tadscale.data.describe import SUBSETS, Repair, describe
from tadscale.data.keys import same_key
from tadscale.data.manifest import VideoRow
from tadscale.data.members import SIDECARS, TarSample, TarWalk
from tadscale.data.quarantine import DataError, QuarantineEntry, reason_of
from tadscale.data.sidecars import read_sidecars
from tadscale.data.storage import join, list_names, open_filesystem, with_retry
from tadscale.data.survey import survey_video
from tadscale.data.suspicions import Suspicions
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.data.windows import verify_windows
from tadscale.errors import UserError

Annotations = Mapping[str, Mapping[str, Any]]
READ_AHEAD_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How shards are to be understood; by default as our own are."""

    annotations: Annotations = field(default_factory=dict)
    """By key: the `database` of an ActivityNet file. Where it knows a key, what lies beside the video does not count."""
    classes: tuple[str, ...] | None = None
    """The labels that may occur, in the order of their numbers; by default those that do."""
    subset: str = ""
    """Of videos whose annotation does not say; by default a word of the shard's name (`train-000.tar`)."""
    video_suffix: str | None = None
    """Which of several videos of a key is meant (`left.mp4`)."""
    labelled: bool = True
    """False: take every video without any annotation."""

    @cached_property
    def entries(self) -> Annotations:
        """The annotations by what all spellings of a key have in common."""
        return {same_key(key): entry for key, entry in self.annotations.items()}


@dataclass
class Scan:
    """What was found in a set of shards."""

    rows: list[VideoRow] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    bad: list[QuarantineEntry] = field(default_factory=list)
    suspicions: Suspicions = field(default_factory=Suspicions)
    """What is allowed and looks wrong."""
    still: list[Repair] = field(default_factory=list)
    """Videos in which one picture stands for long, found when every picture is decoded: a recording that stalled?"""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Members that are neither a video nor a sidecar, by suffix."""


def find_shards(url: str) -> list[str]:
    """The URLs of shards: all `*.tar` of a folder by name, or those that a brace list names (`s3://b/x-{000..127}.tar`).

    Raises:
        UserError: there is none, or the list spans folders.
        StorageError: the storage cannot be reached or refuses.
    """
    if "{" not in url and not url.endswith(".tar"):
        names = [name for name in list_names(url) if name.endswith(".tar")]
        if not names:
            raise UserError(f"{url} holds no *.tar: the URL is wrong, or the shards are compressed (they must not be)")
        return [join(url, name) for name in names]
    from webdataset.shardlists import expand_urls  # late: it imports torch

    urls = expand_urls(url)
    other = [one for one in urls if not one.endswith(".tar")]
    if other:
        raise UserError(f"{url}: {other[0]} is not the name of a shard: a brace list names *.tar files")
    folders = sorted({folder_of(one) for one in urls})
    if len(folders) > 1:
        raise UserError(
            f"{url} spans folders ({', '.join(folders[:3])}): a manifest lies beside its shards; index each folder by itself"
        )
    return [join(folders[0], one.rpartition("/")[2]) for one in urls]


def folder_of(shard_url: str) -> str:
    """The folder that a shard, and its manifest, lie in."""
    return shard_url.rpartition("/")[0] or "."


def scan_shards(shards: Sequence[str], reading: Reading, *, decode_all: bool = False, watch: Watch = unwatched) -> Scan:
    """Look at every video of shards, in order. One video at a time is in memory.

    Args:
        shards: their URLs.
        reading: how to understand them.
        decode_all: decode every picture, which alone finds all damage inside a video, and every window as training does.
        watch: told after each shard how many are done.

    Raises:
        StorageError: the storage cannot be reached or refuses.
    """
    whole = Scan()
    for url in watched(shards, watch):
        part = with_retry(partial(_scan_shard, url, reading, decode_all), url)
        whole.rows += part.rows
        whole.repairs += part.repairs
        whole.bad += part.bad
        whole.suspicions.add(part.suspicions)
        whole.still += part.still
        whole.passed_over += part.passed_over
    return whole


def _scan_shard(url: str, reading: Reading, decode_all: bool) -> Scan:
    scan, shard = Scan(), url.rsplit("/", 1)[-1]
    filesystem, path = open_filesystem(url)
    with filesystem.open(path, "rb", block_size=READ_AHEAD_BYTES) as file:
        walk = TarWalk(file, reading.video_suffix, SIDECARS if reading.labelled else ())
        for sample in walk:
            if set(sample.notes) == {"txt"} and sample.video_offset < 0 and not sample.fault:
                walk.passed_over["txt"] += 1  # the text of something that is no video
                continue
            try:
                row, repairs = _row(sample, url, reading, scan.suspicions)
                if decode_all:
                    verify_video(sample.video)
                    verify_windows(sample.video, row.duration_s)
                    scan.still += _still(sample)
            except Exception as error:  # the one boundary: a video's bytes never end the scan of the others
                scan.bad.append(QuarantineEntry(shard, sample.key, reason_of(error), "scan"))
            else:
                scan.rows.append(row)
                scan.repairs += repairs
    scan.passed_over = walk.passed_over
    return scan


def _row(sample: TarSample, url: str, reading: Reading, suspicions: Suspicions) -> tuple[VideoRow, list[Repair]]:
    if sample.fault:
        raise DataError(sample.fault)
    if sample.video_offset < 0:
        raise DataError(
            "an annotation without a video beside it; the manifest of features is written by `tadscale data features`"
        )
    info = probe_video(sample.video)
    entry = dict(_annotation(sample, reading, info.duration_s))
    entry["subset"] = entry.get("subset") or reading.subset or _subset_in(url)
    if not entry["subset"]:
        raise DataError(f"nothing says its subset: name one of {SUBSETS} (--subset)")
    suspicions.see(sample.key, entry, info)
    row, repairs = describe(sample.key, sample.video, entry, url, sample.video_offset, info)
    return row._replace(labelled=reading.labelled, layout=survey_video(sample.video)), repairs


def _still(sample: TarSample) -> list[Repair]:
    return [
        Repair(
            sample.key, f"one picture stands from {start_s:.1f} s to {end_s:.1f} s; what is annotated there is not seen"
        )
        for start_s, end_s in still_spans(sample.video)
    ]


def _annotation(sample: TarSample, reading: Reading, duration_s: float) -> Mapping[str, Any]:
    if not reading.labelled:
        return {"annotations": []}
    entry = reading.entries.get(same_key(sample.key))
    if entry is None:
        return read_sidecars(sample.key, sample.notes, reading.classes, duration_s)
    if not isinstance(entry, Mapping):
        raise DataError(f"its annotation is a {type(entry).__name__}, no object")
    return entry


def _subset_in(url: str) -> str:
    """The subset that the name of a shard speaks of, if any."""
    words = map(normal_subset, re.split(r"[^a-z]+", url.rpartition("/")[2].lower()))
    return next((word for word in words if word in SUBSETS), "")
