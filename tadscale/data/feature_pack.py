"""Published features, a `.npy` file for each video, and their annotations, into shards."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from tadscale.config import Config
from tadscale.data.annotations import read_database
from tadscale.data.decode import VideoInfo
from tadscale.data.extractor_spec import (
    EXTRACTOR_NAME,
    EXTRACTOR_WEIGHTS_NAME,
    ExtractorSpec,
    read_extractor_spec,
    read_extractor_weights,
)
from tadscale.data.features import RGB_SUFFIX, FeatureRows, npy_bytes, parse_rows
from tadscale.data.folder import list_folder
from tadscale.data.matching import match_files
from tadscale.data.pack import Packed, with_subsets, write_packed
from tadscale.data.quarantine import DataError, QuarantineEntry, QuarantineLedger, reason_of
from tadscale.data.shards import VideoSample
from tadscale.data.storage import join, read_bytes, write_bytes
from tadscale.data.suspicions import Suspicions
from tadscale.data.watched import Watch, unwatched, watched
from tadscale.errors import UserError

SUFFIXES = ("npy",)
ROWS_APART = 2  # flow has one frame less than its video, so that it may end a row or two earlier than RGB
REACH_SLACK, REACH_SLACK_S = 0.1, 5.0
"""Rows may end this share of a video's length, or as many seconds, from its end, whichever is more: a wrong stride is off by
a quarter and more, 25 frames a second for 30 by a fifth."""
SIDE_BY_SIDE = 2048  # I3D's two times 1024; a ResNet-50 has as many of RGB alone
TINY = 1e-6  # of a row: what rounding may take
FPS_SLACK = 1e-4  # how a rate is written: 29.97 is 30000 / 1001, and not 30, which is 1.7 s off after half an hour


class FeatureFiles(Config):
    """How published features lie in their files, as their source says it."""

    stride: PositiveInt
    """Frames of the video from one row to the next."""
    offset: NonNegativeFloat
    """Frame of the video at the middle of row 0: half the frames of a clip."""
    video_fps: PositiveFloat
    """Frames a second that the videos were read at."""
    rgb_channels: PositiveInt | None = None
    """Where a file holds RGB and flow side by side: how many of its first channels are RGB."""
    stated_fps: Literal["check", "follow", "ignore"] = "check"
    """What it means where annotations state another frame rate for a video. `check`: its features cannot be of `video_fps`,
    and it is left out. `follow`: features were computed at each video's own rate (THUMOS14's published ones), and its rows
    are interpolated to where those of `video_fps` lie. `ignore`: they are of `video_fps` all the same, for the videos were
    brought to it before."""


def pack_features(
    directory: str,
    annotations: str,
    url: str,
    files: FeatureFiles,
    *,
    flow_directory: str | None = None,
    split: tuple[float, float, float] | None = None,
    ledger: QuarantineLedger | None = None,
    overwrite: bool = False,
    watch: Watch = unwatched,
) -> Packed:
    """Write shards of the features in a folder and below, as far as an annotation file knows their videos.

    Files are matched with videos as `tadscale.data.pack.pack` does it. Where the annotations do not say how long a video is,
    it lasts to the end of the last row's clip. What says in the folder how its features were made (`data extract` does) goes
    into the manifest, and its weights beside the shards.

    Args:
        directory: path or URL of the folder, with a file `KEY.npy` for each video: rows `[T, C]`.
        annotations: path or URL of a ground-truth file of ActivityNet's form, or of a table.
        url: where the shards go.
        files: what a row is.
        flow_directory: the folder of the flow features, where they have files of their own.
        split: shares of train, validation and test for videos whose annotations name no subset.
        ledger: with the budget; by default one of 1 %.
        overwrite: replace shards that are already there.
        watch: told after each video how many are done.

    Raises:
        UserError: no file matches, none holds features, flow is said to be in two places, the folder says that its features
            are others, or see `pack`.
        QuarantineExceeded: too many videos have no features, or unusable ones.
        StorageError: the storage cannot be reached or refuses.
    """
    if flow_directory is not None and files.rgb_channels is not None:
        raise UserError("--flow names files of flow, and --rgb-channels says that it lies beside RGB: give one of them")
    database = read_database(annotations)
    matches = match_files(list_folder(directory), database, directory, SUFFIXES)
    flow = (
        {}
        if flow_directory is None
        else match_files(list_folder(flow_directory), database, flow_directory, SUFFIXES).files
    )
    entries = with_subsets(database, split, annotations)
    ledger = QuarantineLedger() if ledger is None else ledger
    reader = _Reader(directory, flow_directory, flow, files, entries, ledger, Suspicions())
    features, flow_channels = reader.describe(matches.files)
    extractor = read_extractor_spec(directory)
    weights = b"" if extractor is None else _weights(directory, extractor, features, files)
    samples = reader.samples(matches.files, features, flow_channels, watch)
    packed = write_packed(
        samples,
        url,
        matches,
        ledger,
        reader.suspicions,
        overwrite=overwrite,
        features=features,
        flow_channels=flow_channels,
        extractor=extractor,
    )
    if extractor is not None:
        write_bytes(join(url, EXTRACTOR_WEIGHTS_NAME), weights)
    stated = any(_stated(entries[key]) is not None for key in matches.files)
    return packed._replace(
        warnings=(
            *packed.warnings,
            *(_doubts(files, features.channels, flow_channels, stated=stated) if extractor is None else ()),
        )
    )


def _weights(directory: str, extractor: ExtractorSpec, features: FeatureRows, files: FeatureFiles) -> bytes:
    """Those of what made the features of a folder, where they are packed as what they are. Raises `UserError` where not."""
    where = join(directory, EXTRACTOR_NAME)
    if features != extractor.rows:
        raise UserError(
            f"{where} says that rows are {extractor.rows}, and these are packed as {features}: leave that out"
        )
    if files.stated_fps == "follow":
        raise UserError(
            f"{where} says that all videos were sampled at {extractor.rows.video_fps:g} frames a second: "
            "--stated-fps follow would move their rows; say ignore"
        )
    return read_extractor_weights(directory, extractor)


def _doubts(files: FeatureFiles, rgb: int, flow: int, *, stated: bool) -> Iterator[str]:
    """What is allowed, and would spoil every comparison if it is not what was meant."""
    if rgb == SIDE_BY_SIDE and not flow and files.rgb_channels is None:
        yield (
            f"{rgb} channels are taken as RGB alone. Where flow lies beside it, as in many files of I3D's features, an RGB "
            f"detector would read flow: pack them again with --rgb-channels {rgb // 2}"
        )
    if flow == 2 * rgb:
        yield f"flow has {flow} channels and RGB {rgb}: are the files of flow such that hold RGB, too?"
    if not stated:
        yield "no annotation says how long its video is: whether stride, offset and frame rate are right was not checked"


class _Rows(NamedTuple):
    """The features of one video: `[T, C]`, and `[T, C_flow]`, which may have no channel."""

    rgb: NDArray[np.floating]
    flow: NDArray[np.floating]


@dataclass(frozen=True)
class _Reader:
    """Reads the features of videos one after the other; what cannot be used goes to the ledger."""

    directory: str
    flow_directory: str | None
    flow_files: Mapping[str, str]
    files: FeatureFiles
    entries: Mapping[str, Any]
    ledger: QuarantineLedger
    suspicions: Suspicions

    def describe(self, paths: Mapping[str, str]) -> tuple[FeatureRows, int]:
        """What a row of this data set is, and its channels of flow, by the first of its videos that can be read."""
        reason = ""
        for key, path in sorted(paths.items()):
            try:
                rows = self._read(key, path)
            except DataError as error:
                reason = reason or f"{path}: {error.reason}"
            else:
                facts = self.files.model_dump(exclude={"rgb_channels", "stated_fps"})
                return FeatureRows(channels=rows.rgb.shape[1], **facts), rows.flow.shape[1]
        raise UserError(f"{self.directory}: none of {len(paths)} files holds usable features, such as {reason}")

    def samples(
        self, paths: Mapping[str, str], features: FeatureRows, flow_channels: int, watch: Watch
    ) -> Iterator[VideoSample]:
        for key, path in watched(sorted(paths.items()), watch):
            try:
                sample = self._sample(key, path, features, flow_channels)
            except Exception as error:  # one file's bytes never end the packing of the others
                self.ledger.add(QuarantineEntry("", key, f"{path}: {reason_of(error)}", "pack"))
            else:
                yield sample

    def _sample(self, key: str, path: str, features: FeatureRows, flow_channels: int) -> VideoSample:
        entry = self.entries[key]
        rows = self._timed(self._read(key, path), entry, features)
        channels = rows.rgb.shape[1], rows.flow.shape[1]
        if channels != (features.channels, flow_channels):
            raise DataError(
                f"{channels} channels of RGB and flow in {len(rows.rgb)} rows, and other videos have "
                f"{features.channels, flow_channels} channels; a file that holds [C, T] has to be turned to [T, C] first"
            )
        info = VideoInfo(_duration_s(entry, len(rows.rgb), features), features.video_fps, len(rows.rgb), channels[0], 1)
        self.suspicions.see(key, entry, info)
        flow = npy_bytes(rows.flow) if flow_channels else b""
        return VideoSample(key, npy_bytes(rows.rgb), entry, RGB_SUFFIX, info, flow)

    def _timed(self, rows: _Rows, entry: Mapping[str, Any], features: FeatureRows) -> _Rows:
        """Rows where those of the data set lie. Raises `DataError` where their frame rate is another, or not known."""
        mode = self.files.stated_fps
        if mode == "ignore":
            return rows
        fps = _number(entry["fps"], "fps") if "fps" in entry else None
        if mode == "follow":
            if fps is None or not fps > 0:
                raise DataError("its annotation states no fps, and --stated-fps follow goes by it")
            own = features.model_copy(update={"video_fps": fps})
            return _Rows(*(interpolated(kind, own, features) for kind in rows))
        if fps is not None and abs(fps - features.video_fps) > FPS_SLACK * features.video_fps:
            raise DataError(
                f"{fps:g} frames a second, and the data set's features are of {features.video_fps:g}; computed at each "
                "video's own rate, they are packed with --stated-fps follow, at one rate for all with --stated-fps ignore"
            )
        return rows

    def _read(self, key: str, path: str) -> _Rows:
        rgb = _usable(parse_rows(read_bytes(join(self.directory, path))), "")
        first = self.files.rgb_channels
        if first is not None:
            if first >= rgb.shape[1]:
                raise DataError(f"{rgb.shape[1]} channels, of which {first} should be RGB and the others flow")
            return _Rows(rgb[:, :first], rgb[:, first:])
        if self.flow_directory is None:
            return _Rows(rgb, rgb[:, :0])
        if key not in self.flow_files:
            raise DataError(f"there is no flow of it in {self.flow_directory}")
        flow = _usable(parse_rows(read_bytes(join(self.flow_directory, self.flow_files[key]))), " of flow")
        if abs(len(rgb) - len(flow)) > ROWS_APART:
            raise DataError(f"{len(rgb)} rows of RGB and {len(flow)} of flow: they are not of the same clips")
        common = min(len(rgb), len(flow))
        return _Rows(rgb[:common], flow[:common])


def interpolated(rows: NDArray[np.floating], own: FeatureRows, wanted: FeatureRows) -> NDArray[np.floating]:
    """Rows `[T, C]` of a video at its own frame rate, linearly interpolated to where rows of the wanted rate lie.

    The first may lie a little before what there is, and repeats it; the last is the last within.
    """
    if own.video_fps == wanted.video_fps:
        return rows
    last = len(rows) - 1
    count = max(1, math.floor(wanted.to_rows(own.to_seconds(float(last))) + TINY) + 1)
    place = own.to_rows(wanted.to_seconds(np.arange(count, dtype=np.float64))).clip(0, last)  # [count]
    low = np.minimum(place.astype(np.int64), max(0, last - 1))
    share = (place - low)[:, None].astype(np.float32)
    between = rows[low] * (1 - share) + rows[np.minimum(low + 1, last)] * share
    return between.astype(rows.dtype)


def _usable(rows: NDArray[np.floating], kind: str) -> NDArray[np.floating]:
    """Half and single precision as they are, double as single. Raises `DataError` where a value is none."""
    with np.errstate(over="ignore"):
        narrow = rows.astype(np.float32) if rows.dtype.itemsize > 4 else rows
    bad = np.flatnonzero(~np.isfinite(narrow).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(rows)} rows{kind} hold what is no finite number, the first is row {bad[0]}"
        )
    return narrow


def _duration_s(entry: Mapping[str, Any], rows: int, features: FeatureRows) -> float:
    """How long the annotations say that a video is, else where its last clip ends.

    Raises:
        DataError: its rows end far from there: what they are said to be is wrong.
    """
    reach_s = features.to_seconds(float(rows - 1)) + features.offset / features.video_fps
    stated = _stated(entry)
    duration_s = reach_s if stated is None else _number(stated, "duration")
    if abs(reach_s - duration_s) > max(REACH_SLACK_S, REACH_SLACK * duration_s):
        raise DataError(
            f"{rows} rows, {features.stride} frames apart at {features.video_fps:g} frames a second, reach to "
            f"{reach_s:.1f} s of a video of {duration_s:.1f} s: stride, offset or frame rate are others"
        )
    return duration_s


def _stated(entry: Mapping[str, Any]) -> Any:
    return entry.get("duration", entry.get("duration_second"))


def _number(value: Any, field: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"its annotation says {field}: {value!r}, which is no number") from None
