"""A folder of `.npy` files, one for each video, written as their features are computed: what is there is not done again."""

import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tadscale.data.features import npy_bytes
from tadscale.data.folder import list_folder
from tadscale.data.json_text import parse_json
from tadscale.data.manifest import Manifest, VideoRow
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger
from tadscale.data.storage import join, read_text, remove, write_bytes
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.data.windows import read_video
from tadscale.errors import UserError

NOTE_NAME = "computed_by.txt"
DIGESTS_NAME = "computed_of.json"
"""Beside the features: the SHA-256 of each one's video, by key."""

Compute = Callable[[bytes, float], NDArray[np.float32]]
"""Features `[T, C]` of an encoded video and its length in seconds."""

NOTHING: Mapping[str, bytes] = {}


def write_feature_files(
    videos: Manifest,
    url: str,
    compute: Compute,
    identity: str,
    ledger: QuarantineLedger,
    watch: Watch = unwatched,
    beside: Mapping[str, bytes] = NOTHING,
) -> int:
    """Write `URL/KEY.npy` for every video that has none yet. A file appears when it is whole, so a run may be interrupted.

    Those of a video that has been replaced since are computed anew. Where an earlier version computed them and kept no
    digest of the video, they count as those of the video as it is now.

    Args:
        videos: whose features.
        url: a folder or prefix.
        compute: makes them.
        identity: what makes them, in words: files of another make are not mixed with these.
        ledger: takes videos that cannot be decoded.
        watch: told after each of the missing videos how many are done.
        beside: files by name that say how features are made, written before the first is.

    Returns:
        How many were computed now.

    Raises:
        UserError: the folder holds features that something else computed.
        QuarantineExceeded: more videos are bad than the ledger's budget allows.
        StorageError: the storage cannot be reached or refuses.
    """
    note = join(url, NOTE_NAME)
    earlier = read_text(note)
    if earlier not in ("", identity):
        raise UserError(f"{url} holds features of {earlier}, and these are of {identity}: write to another folder")
    write_bytes(note, identity.encode())
    for name, data in beside.items():
        write_bytes(join(url, name), data)
    missing, computed = _missing(videos, url), 0
    for index in watched(missing, watch):
        row = videos.row(index)
        try:
            rows = compute(read_video(row), row.duration_s)
        except DataError as error:
            ledger.add(QuarantineEntry(row.shard, row.key, error.reason, "features"))
        else:
            write_bytes(join(url, file_of(row.key)), npy_bytes(rows))
            computed += 1
    ledger.check(len(videos))
    return computed


def _missing(videos: Manifest, url: str) -> list[int]:
    """Indices of the videos without features. All digests are noted at once, before the first is computed: those that do
    not get that far have no file, and the files of videos that were replaced are removed first."""
    at = join(url, DIGESTS_NAME)
    noted = parse_json((read_text(at) or "{}").encode(), at)
    if not isinstance(noted, dict):
        raise UserError(
            f"{at} is no JSON object of digests by key: it was overwritten; delete it, and the features with it"
        )
    digests = dict(zip(videos.column("key").tolist(), videos.column("video_sha256").tolist(), strict=True))
    present = frozenset(list_folder(url, hidden=True).files)
    replaced = {key for key, digest in digests.items() if noted.get(key, digest) != digest}
    for key in replaced:
        if file_of(key) in present:
            remove(join(url, file_of(key)))
    if noted | digests != noted:
        write_bytes(at, json.dumps(noted | digests, ensure_ascii=False).encode())
    return [index for index, key in enumerate(digests) if key in replaced or file_of(key) not in present]


def file_of(key: str) -> str:
    """The name of a video's file of features."""
    return f"{key}.npy"


def write_annotations(videos: Manifest, url: str) -> None:
    """The videos' annotations as ActivityNet JSON, for `tadscale data features`. Raises `StorageError`."""
    database = {row.key: annotation_of(row) for row in videos.facts()}
    write_bytes(url, json.dumps({"database": database}, ensure_ascii=False).encode())


def annotation_of(row: VideoRow) -> dict[str, object]:
    """A video's ActivityNet entry."""
    segments = zip(row.labels, row.start_s, row.end_s, strict=True)
    return {
        "duration": row.duration_s,
        "subset": row.subset,
        "annotations": [{"label": label, "segment": [start, end]} for label, start, end in segments],
    }
