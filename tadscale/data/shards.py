"""Shards: plain WebDataset tars of videos (or their features) and their annotations, written for ranged reads."""

import hashlib
import json
import logging
import re
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple

from tadscale.data.decode import VideoInfo
from tadscale.data.describe import describe
from tadscale.data.extractor_spec import ExtractorSpec
from tadscale.data.features import FLOW_SUFFIX, RGB_SUFFIX, FeatureRows
from tadscale.data.keys import VIDEO_SUFFIXES, member_name
from tadscale.data.manifest import MANIFEST_NAME, Manifest, VideoRow, make_manifest, write_manifest
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger, reason_of
from tadscale.data.storage import join, list_names, remove, upload
from tadscale.data.survey import survey_video
from tadscale.errors import UserError

SHARD_BYTES = 256 << 20
"""A shard is closed before it would grow beyond this; one video alone may."""
OWN_SHARD = re.compile(r"shard-\d{6}\.tar")

log = logging.getLogger(__name__)


class VideoSample(NamedTuple):
    """One video on its way into a shard: becomes the members `KEY.mp4` and `KEY.json`.

    Or its features, as `KEY.rgb.npy`, `KEY.flow.npy` where there are any, and `KEY.json`.
    """

    key: str
    """Unique in the data set; see `tadscale.data.keys`, also for how members spell it."""
    video: bytes
    """The encoded file, or that of its RGB features."""
    annotation: dict[str, Any]
    """ActivityNet style: `{"duration": s, "subset": "train", "annotations": [{"label": l, "segment": [s, e]}]}`."""
    suffix: str = "mp4"
    """One of `VIDEO_SUFFIXES`, or `rgb.npy`."""
    info: VideoInfo | None = None
    """Of the video, where it has been probed before. Features come with theirs."""
    flow: bytes = b""
    """The file of its flow features, if there is one."""


def write_shards(
    samples: Iterable[VideoSample],
    url: str,
    *,
    videos_per_shard: int | None = None,
    classes: Iterable[str] | None = None,
    ledger: QuarantineLedger | None = None,
    overwrite: bool = False,
    features: FeatureRows | None = None,
    flow_channels: int = 0,
    extractor: ExtractorSpec | None = None,
) -> Manifest:
    """Write videos as `URL/shard-000000.tar`, ..., and `URL/manifest.parquet` last of all.

    The same samples give the same bytes. One video at a time is in memory; a shard grows in a local temporary file and
    is uploaded when full. Without a manifest a folder counts as unfinished.

    Args:
        samples: the videos, in the order that the manifest will keep.
        url: a folder: a local path or `s3://bucket/prefix`.
        videos_per_shard: a shard is closed at this many videos, too.
        classes: the labels that may occur; by default those that do.
        ledger: takes unusable videos; without one they are errors.
        overwrite: replace a set of shards that is already there.
        features: what a row is, where the samples are features; see `Manifest`.
        flow_channels: of the flow features beside them.
        extractor: what made the features, where it is known.

    Raises:
        UserError: the folder already holds shards, a key occurs twice, a label is unknown, or a video is unusable.
        QuarantineExceeded: more videos are unusable than the ledger's budget allows.
        StorageError: the storage cannot be reached or refuses.
    """
    _claim(url, overwrite)
    rows: list[VideoRow] = []
    with TemporaryDirectory() as scratch, _ShardWriter(url, Path(scratch), videos_per_shard) as writer:
        for sample in samples:
            try:
                rows.append(writer.add(sample))
            except DataError as error:
                if ledger is None:
                    raise UserError(f"video {sample.key!r}: {error.reason}") from error
                ledger.add(QuarantineEntry("", sample.key, error.reason, "pack"))
    if ledger is not None:
        ledger.check(len(rows) + len(ledger))
    manifest = make_manifest(url, rows, classes, features=features, flow_channels=flow_channels)
    manifest = replace(manifest, extractor=extractor)
    write_manifest(manifest)
    return manifest


def shards_in(url: str, *, overwrite: bool) -> list[str]:
    """The names of the manifest and the tars in a folder that shards are to be written to; changes nothing.

    Raises:
        UserError: there are some, and `overwrite` does not say that they may be replaced.
        StorageError: the storage cannot be reached or refuses.
    """
    present = [name for name in list_names(url) if name == MANIFEST_NAME or name.endswith(".tar")]
    if present and not overwrite:
        whose = "" if MANIFEST_NAME in present else " without a manifest, of another tool or of an interrupted write"
        raise UserError(
            f"{url} already holds shards ({present[0]}, {len(present)} files){whose}: write elsewhere, or replace them "
            "(--overwrite)"
        )
    return present


def _claim(url: str, overwrite: bool) -> None:
    """Make sure that no shards are overwritten by accident, and that none are left over to be mistaken for new ones."""
    # The manifest first: without it nobody reads what is about to change.
    for name in sorted(shards_in(url, overwrite=overwrite), key=lambda name: name != MANIFEST_NAME):
        if name == MANIFEST_NAME or OWN_SHARD.fullmatch(name):
            remove(join(url, name))


class _ShardWriter:
    """Appends samples to the current shard, and uploads it when it is full."""

    def __init__(self, url: str, scratch: Path, max_videos: int | None) -> None:
        self.url, self.scratch, self.max_videos = url, scratch, max_videos
        self.shards = self.videos = 0
        self.keys: set[str] = set()
        self.tar: Any = None

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.tar is not None:
            self._close()
            if error is None:
                self._upload()

    def add(self, sample: VideoSample) -> VideoRow:
        if sample.suffix not in (*VIDEO_SUFFIXES, RGB_SUFFIX):
            raise DataError(f"suffix {sample.suffix!r} is none of {VIDEO_SUFFIXES}")
        if sample.key in self.keys:
            raise UserError(f"key {sample.key!r} occurs twice: every video needs a key of its own")
        # Its place: as soon as it has one.
        try:
            row, repairs = describe(sample.key, sample.video, sample.annotation, "", 0, sample.info)
        except Exception as error:  # whatever one video's bytes made a parser raise
            raise DataError(reason_of(error)) from error
        for repair in repairs:
            log.warning("%s: %s", repair.key, repair.what)
        text = json.dumps(sample.annotation, sort_keys=True, ensure_ascii=False)
        note = text.encode(errors="backslashreplace")  # half a character of Unicode stays JSON's escape
        name = member_name(sample.key)
        members = {sample.suffix: sample.video} | ({FLOW_SUFFIX: sample.flow} if sample.flow else {}) | {"json": note}
        self._make_room(sum(_header(name, suffix) + _blocks(data) for suffix, data in members.items()))
        offsets = {suffix: self._write(name, suffix, data) for suffix, data in members.items()}
        self.keys.add(sample.key)
        self.videos += 1
        layout = survey_video(sample.video) if sample.suffix in VIDEO_SUFFIXES else b""
        row = row._replace(url=join(self.url, self._name), video_offset=offsets[sample.suffix], layout=layout)
        if not sample.flow:
            return row
        sha256 = hashlib.sha256(sample.flow).hexdigest()
        return row._replace(flow_offset=offsets[FLOW_SUFFIX], flow_bytes=len(sample.flow), flow_sha256=sha256)

    def _write(self, name: str, suffix: str, data: bytes) -> int:
        """Append one member, and say at which byte its content begins."""
        self.tar.write({"__key__": name, suffix: data})
        return self.tar.tarstream.offset - _blocks(data)

    @property
    def _name(self) -> str:
        return f"shard-{self.shards:06d}.tar"

    def _make_room(self, size: int) -> None:
        if self.tar is not None:
            end = self.tar.tarstream.offset + size + 2 * tarfile.BLOCKSIZE  # the end mark
            full = -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE > SHARD_BYTES  # tars end with a whole record
            if full or self.videos == self.max_videos:
                self._close()
                self._upload()
        if self.tar is None:
            self.tar = _open_tar(open(self.scratch / self._name, "wb"))  # noqa: SIM115 - closed by _close

    def _close(self) -> None:
        self.tar.close()
        self.tar.stream.close()
        self.tar = None

    def _upload(self) -> None:
        upload(self.scratch / self._name, join(self.url, self._name))
        (self.scratch / self._name).unlink()
        self.videos, self.shards = 0, self.shards + 1


def _open_tar(file: BinaryIO) -> Any:
    """WebDataset's own writer, without a clock and an owner: same samples, same bytes."""
    from webdataset.writer import TarWriter  # late: it imports torch, and whoever only reads shards does without

    return TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False, compress=False, format="PAX_FORMAT")


def _header(name: str, suffix: str) -> int:
    """Bytes of a member's header: one block, or four where the name is long."""
    return len(tarfile.TarInfo(f"{name}.{suffix}").tobuf(tarfile.PAX_FORMAT))


def _blocks(data: bytes) -> int:
    """Bytes that a content takes inside a tar."""
    return -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
