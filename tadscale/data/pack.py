"""One's own videos and their annotations, into shards."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tadscale.data.annotations import read_database
from tadscale.data.decode import probe_video
from tadscale.data.folder import list_folder
from tadscale.data.keys import VIDEO_SUFFIXES, video_key
from tadscale.data.manifest import Manifest
from tadscale.data.matching import Matches, match_files
from tadscale.data.quarantine import QuarantineEntry, QuarantineExceeded, QuarantineLedger, reason_of
from tadscale.data.shards import VideoSample, shards_in, write_shards
from tadscale.data.split import split_videos
from tadscale.data.storage import join, list_names, read_bytes, remove, write_bytes
from tadscale.data.suspicions import Suspicions
from tadscale.data.transcode import Transcode, transcode_video
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.errors import UserError

LEDGER_NAME = "quarantine.jsonl"
MAGIC = ((4, b"ftyp", "mp4"), (0, b"\x1a\x45\xdf\xa3", "mkv"), (8, b"AVI ", "avi"), (0, b"FLV", "flv"), (0, b"G", "ts"))
"""Offset and bytes by which containers are known, where a file's suffix says nothing."""


class Packed(NamedTuple):
    """What became of a folder of videos."""

    manifest: Manifest
    ledger: QuarantineLedger
    """Annotated videos that were left out, each with its reason."""
    ledger_url: str
    """Where the ledger lies; empty if nothing was left out."""
    strangers: tuple[str, ...]
    """Video files that the annotations do not know."""
    warnings: tuple[str, ...]
    """What is allowed and looks wrong."""


def pack(
    directory: str,
    annotations: str,
    url: str,
    *,
    transcode: Transcode | None = None,
    split: tuple[float, float, float] | None = None,
    ledger: QuarantineLedger | None = None,
    overwrite: bool = False,
    watch: Watch = unwatched,
) -> Packed:
    """Write shards of the videos in a folder and below, as far as an annotation file knows them.

    Which file is which video, `tadscale.data.keys` says. Annotated videos that are missing or unusable go to the ledger,
    which is written as `URL/quarantine.jsonl` if it is not empty; videos without an entry are left out.

    Args:
        directory: path or URL of the folder.
        annotations: path or URL of a ground-truth file of ActivityNet's form, or of a table (`tadscale.data.csv_text`).
        url: where the shards go.
        transcode: re-encode the videos; by default they are taken as they are.
        split: shares of train, validation and test for videos whose annotations name no subset.
        ledger: with the budget; by default one of 1 %.
        overwrite: replace shards that are already there.
        watch: told after each file how many are done.

    Raises:
        UserError: no video matches, two files that differ match one key, no video has a subset, or see `write_shards`.
        QuarantineExceeded: too many videos are missing or unusable.
        StorageError: the storage cannot be reached or refuses.
    """
    database = read_database(annotations)
    matches = match_files(list_folder(directory), database, directory)
    entries = with_subsets(database, split, annotations)
    ledger = QuarantineLedger() if ledger is None else ledger
    reader = _Reader(directory, entries, transcode, ledger, Suspicions())
    return write_packed(
        reader.samples(matches.files, watch), url, matches, ledger, reader.suspicions, overwrite=overwrite
    )


def write_packed(
    samples: Iterable[VideoSample],
    url: str,
    matches: Matches,
    ledger: QuarantineLedger,
    suspicions: Suspicions,
    *,
    overwrite: bool,
    **content: Any,
) -> Packed:
    """Write samples of the files that were matched as shards, and the ledger beside them; see `pack`.

    Args:
        samples: of `matches.files`; what cannot be used of them goes to the ledger as they are read.
        url: where the shards go.
        matches: files and videos.
        ledger: takes the videos without a file, too.
        suspicions: of what is read.
        overwrite: replace shards that are already there.
        content: what the shards hold, if not videos: `features`, `flow_channels` and `extractor` of `write_shards`.

    Raises:
        QuarantineExceeded: too many videos are missing, before anything was read or removed; or too many are unusable.
    """
    at = join(url, LEDGER_NAME)
    _enter_missing(matches, url, ledger, overwrite)
    try:
        manifest = write_shards(samples, url, ledger=ledger, overwrite=overwrite, **content)
    except QuarantineExceeded as error:
        hints = [f"All reasons are in {at}.", *suspicions.warnings()]
        raise QuarantineExceeded("\n".join([str(error), *hints])) from error
    finally:
        if len(ledger):
            write_bytes(at, ledger.to_jsonl().encode())
    if not len(ledger) and LEDGER_NAME in list_names(url):
        remove(at)  # of an earlier try
    warnings = tuple(suspicions.warnings())
    return Packed(manifest, ledger, at if len(ledger) else "", matches.strangers, warnings)


def _enter_missing(matches: Matches, url: str, ledger: QuarantineLedger, overwrite: bool) -> None:
    """Enter the videos without a file, and refuse to begin where they alone are too many or the shards may not be written.

    Shards that are already there stay as they are, and so does the ledger beside them, which is theirs.
    """
    for key, reason in matches.missing.items():
        ledger.add(QuarantineEntry("", key, reason, "pack"))
    earlier = shards_in(url, overwrite=overwrite)
    try:
        ledger.check(len(matches.files) + len(matches.missing))
    except QuarantineExceeded as error:
        if earlier:
            raise
        at = join(url, LEDGER_NAME)
        write_bytes(at, ledger.to_jsonl().encode())
        raise QuarantineExceeded(f"{error}\nAll reasons are in {at}.") from error


def with_subsets(
    database: Mapping[str, Any], split: tuple[float, float, float] | None, annotations: str
) -> dict[str, Any]:
    """The annotations' entries by key, each with a subset where `split` is to give it one.

    Raises:
        UserError: no entry has a subset, and there is no split.
    """
    entries = {video_key(name): entry for name, entry in database.items()}
    bare = [key for key, entry in entries.items() if isinstance(entry, Mapping) and not entry.get("subset")]
    if split is None:
        if bare and len(bare) == len(entries):
            raise UserError(f"{annotations} names no subset for any video: --split 0.8/0.1/0.1 makes them")
        return entries
    subsets = split_videos(bare, split)
    return {key: {**entry, "subset": subsets[key]} if key in subsets else entry for key, entry in entries.items()}


@dataclass(frozen=True)
class _Reader:
    """Reads the files of videos one after the other; those that are none go to the ledger."""

    directory: str
    entries: Mapping[str, Any]
    transcode: Transcode | None
    ledger: QuarantineLedger
    suspicions: Suspicions

    def samples(self, files: Mapping[str, str], watch: Watch) -> Iterator[VideoSample]:
        for key, path in watched(sorted(files.items()), watch):
            video = read_bytes(join(self.directory, path))
            try:
                sample = self._sample(key, path, video)
            except Exception as error:  # one file's bytes never end the packing of the others
                self.ledger.add(QuarantineEntry("", key, f"{path}: {reason_of(error)}", "pack"))
            else:
                yield sample

    def _sample(self, key: str, path: str, video: bytes) -> VideoSample:
        info = probe_video(video)
        self.suspicions.see(key, self.entries[key], info, self.transcode.fps if self.transcode else 0.0)
        if self.transcode is None:
            return VideoSample(key, video, self.entries[key], _suffix(path, video), info)
        return VideoSample(key, transcode_video(video, info, self.transcode), self.entries[key])


def _suffix(path: str, video: bytes) -> str:
    """That of the file, or what its first bytes say where it is none of a video."""
    suffix = path.rpartition(".")[2].lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix
    return next((known for at, magic, known in MAGIC if video[at : at + len(magic)] == magic), "mpg")
