"""One's own videos and an ActivityNet annotation file, into shards."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from tadscale.config import Config
from tadscale.data.annotations import parse_ground_truth, read_document
from tadscale.data.decode import decode_frames, probe_video
from tadscale.data.encode import encode_pictures
from tadscale.data.keys import VIDEO_SUFFIXES
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.storage import join, list_names, read_bytes, write_bytes
from tadscale.data.windows import video_frames
from tadscale.errors import UserError

LEDGER_NAME = "quarantine.jsonl"
CHUNK_FRAMES = 256

log = logging.getLogger(__name__)


class Transcode(Config):
    """Re-encode videos for training: at 112x112 and 10 fps a core decodes some 400 s of video a second, at 720p 10."""

    fps: PositiveFloat = 10.0
    """Pictures a second; that of the windows, or a multiple of it."""
    short_side: PositiveInt = 128
    """Pixels of the shorter side; smaller videos keep their size."""
    crf: int = 20
    """x264 quality, 0 to 51; less is better and larger."""


def pack(
    directory: str,
    annotations: str,
    url: str,
    *,
    transcode: Transcode | None = None,
    ledger: QuarantineLedger | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write shards of the videos in a folder, as far as an annotation file knows them.

    A video belongs to the key that is its file name without suffix, or with ActivityNet's `v_` before it. Annotated videos
    that are missing or unusable go to the ledger, which is written as `URL/quarantine.jsonl` if it is not empty; videos
    without an entry are left out.

    Args:
        directory: path or URL of the folder; not searched deeper.
        annotations: path or URL of a ground-truth file of ActivityNet's form.
        url: where the shards go.
        transcode: re-encode the videos; by default they are taken as they are.
        ledger: with the budget; by default one of 1 %.
        overwrite: replace shards that are already there.

    Raises:
        UserError: no video matches, two files match one key, or see `write_shards`.
        QuarantineExceeded: too many videos are missing or unusable.
        StorageError: the storage cannot be reached or refuses.
    """
    document = read_document(annotations)
    parse_ground_truth(document.content, annotations)  # refuses another form, with the place
    entries: Mapping[str, Any] = document.content["database"]
    files = _match(directory, entries)
    ledger = QuarantineLedger() if ledger is None else ledger
    for key in entries.keys() - files.keys():
        ledger.add(QuarantineEntry("", key, f"annotated, but there is no file of it in {directory}", "pack"))
    samples = _samples(directory, files, entries, transcode, ledger)
    try:
        return write_shards(samples, url, ledger=ledger, overwrite=overwrite)
    finally:
        if len(ledger):
            write_bytes(join(url, LEDGER_NAME), ledger.to_jsonl().encode())


def transcode_video(video: bytes, config: Transcode) -> bytes:
    """A video at another rate and size, as H.264 in MP4; picture `k` shows the time `k / fps` of the original.

    Raises:
        UndecodableVideo: a picture cannot be had.
    """
    info = probe_video(video)
    scale = min(1.0, config.short_side / min(info.height, info.width))
    height, width = (2 * round(side * scale / 2) for side in (info.height, info.width))  # even, for 4:2:0 chroma
    times_s = np.arange(int(video_frames(info.duration_s, config.fps))) / config.fps  # [T]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for first in range(0, len(times_s), CHUNK_FRAMES):  # an hour of pictures does not fit into memory
            yield from decode_frames(video, times_s[first : first + CHUNK_FRAMES], (height, width))

    return encode_pictures(pictures(), height, width, config.fps, crf=config.crf)


def _match(directory: str, entries: Mapping[str, Any]) -> dict[str, str]:
    """File name by key."""
    files: dict[str, str] = {}
    names = [name for name in list_names(directory) if name.rpartition(".")[2].lower() in VIDEO_SUFFIXES]
    for name in names:
        stem = name.rpartition(".")[0]
        key = stem if stem in entries else stem.removeprefix("v_")
        if key in files:
            raise UserError(f"{directory}: {files[key]} and {name} are both the video {key!r}: remove one")
        if key in entries:
            files[key] = name
    if not files:
        raise UserError(
            f"none of the {len(names)} videos in {directory} ({', '.join(names[:3])}...) is in the annotations "
            f"({', '.join(list(entries)[:3])}...): a file is named KEY.mp4, of suffix {', '.join(VIDEO_SUFFIXES)}"
        )
    if len(names) > len(files):
        log.warning("%s: %d videos are left out, the annotations do not know them", directory, len(names) - len(files))
    return files


def _samples(
    directory: str,
    files: Mapping[str, str],
    entries: Mapping[str, Any],
    transcode: Transcode | None,
    ledger: QuarantineLedger,
) -> Iterator[VideoSample]:
    for key, name in sorted(files.items()):
        video, suffix = read_bytes(join(directory, name)), name.rpartition(".")[2].lower()
        if transcode is not None:
            try:
                video, suffix = transcode_video(video, transcode), "mp4"
            except DataError as error:
                ledger.add(QuarantineEntry("", key, error.reason, "pack"))
                continue
        yield VideoSample(key, video, entries[key], suffix)
