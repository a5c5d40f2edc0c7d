"""The manifest: one row per video, with which a worker fetches any video by one ranged read."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tadscale.data.extractor_spec import ExtractorSpec
from tadscale.data.features import FeatureRows
from tadscale.data.manifest_file import INDEX, MAX_ROWS, ManifestFile, open_manifest_file
from tadscale.data.manifest_writer import write_manifest_file
from tadscale.data.storage import CorruptMember, StorageError, join, read_bytes
from tadscale.data.stored_rows import Part, StoredRows
from tadscale.data.video_row import MANIFEST_NAME, VideoRow, row_of, unknown_label
from tadscale.errors import UserError, nearest

__all__ = ["MANIFEST_NAME", "Manifest", "VideoRow", "make_manifest", "open_manifest", "read_manifest", "unknown_label",
           "write_manifest"]  # fmt: skip
OLD_FORMAT = "1"
CONTENT = "1"  # version of what the digest covers, and how
NOT_COUNTED = ("url", "video_offset", "label_ids", "source", "flow_offset", "layout")
T = TypeVar("T")
_encode = json.JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """What is in a set of shards. The order of the rows belongs to its identity: plans count on it.

    Make one with `make_manifest`, `read_manifest`, `tadscale.data.shards.write_shards` or
    `tadscale.data.index.index_shards`.

    Attributes:
        url: the folder that holds the shards.
        classes: all labels of the data set, sorted; a subset keeps those of the whole.
        rows: one per video; `StoredRows` where they stay in their file until they are asked for.
        features: what a row of features is, in shards that hold them in place of videos.
        flow_channels: channels of the flow features beside them; 0 where there are none.
        stated: digests of all that the files hold from which the rows come; empty if they come from none.
        extractor: what made the features of videos, where it is known, for one set of shards; no part of the digest.
    """

    url: str
    classes: tuple[str, ...]
    rows: Sequence[VideoRow] = field(repr=False)
    features: FeatureRows | None = None
    flow_channels: int = 0
    stated: tuple[str, ...] = ()
    extractor: ExtractorSpec | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        subsets = ", ".join(
            f"{name} {count}" for name, count in sorted(Counter(self.column("subset").tolist()).items())
        )
        hours = self.duration_s.sum() / 3600
        return f"{len(self)} videos ({subsets}), {hours:.2f} h, {len(self.classes)} classes, in {self.url}"

    def row(self, index: int) -> VideoRow:
        """One video."""
        return self.rows[index]

    def facts(self) -> Iterable[VideoRow]:
        """All rows, in order, where possible without their layouts, which are most of a manifest of long videos."""
        return self.rows.facts() if isinstance(self.rows, StoredRows) else self.rows

    def column(self, name: str) -> NDArray[Any]:
        """One scalar field of all rows, `[V]`."""
        if isinstance(self.rows, StoredRows):
            return self.rows.column(name)
        return np.array([getattr(row, name) for row in self.rows])

    @cached_property
    def duration_s(self) -> NDArray[np.float64]:
        """`[V]` lengths of the videos."""
        return self.column("duration_s").astype(np.float64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is trained on: keys, video digests, annotations and their order.

        Where the bytes lie does not count, in a shard or inside a video: copied, resharded or indexed anew, a data set keeps
        its digest.
        """
        stored = isinstance(self.rows, StoredRows)
        return self._digest_of(self.rows.described() if stored else map(VideoRow._asdict, self.rows))  # type: ignore[attr-defined]

    def _digest_of(self, rows: Iterable[dict[str, Any]]) -> str:
        described = [] if self.features is None else [_features_note(self)]
        sha = hashlib.sha256(json.dumps([CONTENT, self.classes, *described]).encode())
        for facts in rows:
            for name in NOT_COUNTED:
                facts.pop(name, None)
            if facts.get(
                "labelled", True
            ):  # said of the others alone: digests of annotated videos are older than the word
                facts.pop("labelled", None)
            if not facts.get("flow_bytes"):  # likewise
                facts.pop("flow_bytes", None)
                facts.pop("flow_sha256", None)
            sha.update(_encode(facts).encode())
        return sha.hexdigest()

    def subset(self, name: str) -> "Manifest":
        """The videos of one subset, in order.

        Raises:
            UserError: there are none.
        """
        subsets = self.column("subset")
        chosen = np.flatnonzero(subsets == name)
        if not len(chosen):
            raise UserError(f"{self.url}: no video of subset {name!r}; {nearest(name, set(subsets.tolist()))}")
        if isinstance(self.rows, StoredRows):
            return replace(self, rows=self.rows.take(chosen))
        return replace(self, rows=tuple(self.rows[index] for index in chosen.tolist()))


def make_manifest(
    url: str,
    rows: Iterable[VideoRow],
    classes: Iterable[str] | None = None,
    *,
    features: FeatureRows | None = None,
    flow_channels: int = 0,
) -> Manifest:
    """Put rows together, and number their labels.

    Args:
        url: the folder that holds the shards.
        rows: with or without `label_ids`, which are overwritten.
        classes: the labels that may occur; by default those that do.
        features: see `Manifest`.
        flow_channels: see `Manifest`.

    Raises:
        UserError: no rows, two videos of one key, or a label that is not in `classes`.
    """
    rows = tuple(rows)
    if not rows:
        raise UserError(f"{url}: no usable video")
    seen: dict[str, VideoRow] = {}
    for row in rows:
        if row.key in seen:
            raise UserError(
                f"{url}: key {row.key!r} occurs twice, in {seen[row.key].shard} and {row.shard}: rename or remove one"
            )
        seen[row.key] = row
    known = sorted({label for row in rows for label in row.labels} if classes is None else set(classes))
    allowed = frozenset(known)
    for row in rows:
        for label in row.labels:
            if label not in allowed:
                raise UserError(unknown_label(row, label, known))
    ids = {label: index for index, label in enumerate(known)}
    numbered = (row._replace(label_ids=np.array([ids[label] for label in row.labels], np.int64)) for row in rows)
    return Manifest(
        url=url.rstrip("/"),
        classes=tuple(known),
        rows=tuple(numbered),
        features=features,
        flow_channels=flow_channels,
    )


def read_manifest(url: str) -> Manifest:
    """Open the manifest of a folder of shards, and verify all of it once in this process; no more of it is kept than of
    `open_manifest`.

    Raises:
        UserError: there is none, or it is damaged or of another format.
        StorageError: the storage cannot be reached or refuses.
    """
    manifest = open_manifest(url)
    if isinstance(manifest.rows, StoredRows):
        _guarded(url, lambda: _verify(url, manifest.rows.parts[0].file))  # type: ignore[attr-defined]
    return manifest


def open_manifest(url: str) -> Manifest:
    """Open the manifest of a folder of shards: its index is read and verified, and each row when it is asked for.

    For processes that take part in a run whose manifest another one has read as a whole. A manifest of format 1, which has
    no index, is read whole.

    Raises:
        UserError: there is none, or what was read of it is damaged or of another format.
        StorageError: the storage cannot be reached or refuses.
    """
    return _guarded(url, lambda: _open(url))


def _guarded(url: str, read: Callable[[], T]) -> T:
    """Say what a failure to read means to the user."""
    where = join(url, MANIFEST_NAME)
    try:
        return read()
    except CorruptMember as error:
        raise UserError(f"{where} is damaged, or was replaced meanwhile ({error}): build the manifest again") from error
    except UserError:
        raise
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise UserError(
            f"{where} does not exist: the URL (data.url, and the environment variable that it may come from) is wrong, or "
            "nothing has been written there yet, or not to the end: `tadscale data import`, `pack` or `features` do. For "
            "shards of another tool make a manifest with `tadscale data index`"
        ) from error
    except Exception as error:  # Arrow and NumPy raise whatever they like on bytes that were made up
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{where} is not a readable Parquet file ({error}): build the manifest again") from error


def _open(url: str) -> Manifest:
    where = join(url, MANIFEST_NAME)
    file = open_manifest_file(where)
    return _read_old(read_bytes(where), url) if file is None else _stored(url, file)


def _stored(url: str, file: ManifestFile) -> Manifest:
    features = json.loads(file.notes.get("tadscale.features", "{}"))
    extractor = file.notes.get("tadscale.extractor")
    classes = tuple(json.loads(file.notes["tadscale.classes"]))
    return Manifest(
        url=url.rstrip("/"),
        classes=classes,
        rows=StoredRows.of(Part(url, file, {label: index for index, label in enumerate(classes)})),
        features=FeatureRows.model_validate(features["rows"]) if features else None,
        flow_channels=int(features.get("flow_channels", 0)),
        stated=(file.notes["tadscale.digest"],),
        extractor=ExtractorSpec.model_validate_json(extractor) if extractor else None,
    )


@lru_cache(maxsize=4)  # files are equal if their bytes are
def _verify(url: str, file: ManifestFile) -> None:
    """Go through all rows: each may be what it is, is in the index, has a key of its own, and all have the digest."""
    manifest = _stored(url, file)
    if list(manifest.classes) != sorted(set(manifest.classes)) or not len(manifest):
        raise UserError(f"{file.where} holds no video, or no list of classes: build the manifest again")
    if manifest._digest_of(_checked(manifest, file)) != file.notes["tadscale.digest"]:
        raise _other_digest(url)


def _checked(manifest: Manifest, file: ManifestFile) -> Iterator[dict[str, Any]]:
    keys: set[str] = set()
    indexed = zip(*(file.index[name].tolist() for name in INDEX), strict=True)
    for row, stated in zip(manifest.facts(), indexed, strict=True):
        if row.key in keys:
            raise UserError(f"{file.where}: key {row.key!r} occurs twice: build the manifest again")
        keys.add(row.key)
        if stated != (row.duration_s, row.frames, row.subset, row.labelled):
            raise UserError(f"{file.where}: the index says {stated} of {row.key!r}: build the manifest again")
        yield row._asdict()


def _other_digest(url: str) -> UserError:
    where = join(url, MANIFEST_NAME)
    return UserError(f"{where}: the digest of its content is not the one it states: build the manifest again")


def _read_old(data: bytes, url: str) -> Manifest:
    import pyarrow.parquet as pq

    where, file = join(url, MANIFEST_NAME), pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    notes = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    if notes.get("tadscale.format") != OLD_FORMAT:
        raise UserError(f"{where} is not a manifest of a format that is known here: build the manifest again")
    if file.metadata.num_rows > MAX_ROWS:
        raise UserError(f"{where} states {file.metadata.num_rows} videos, at most {MAX_ROWS} are read: build it again")
    features = json.loads(notes.get("tadscale.features", "{}"))
    manifest = make_manifest(
        url,
        [row_of(url, columns, index) for index, columns in enumerate(file.read().to_pylist())],
        json.loads(notes["tadscale.classes"]),
        features=FeatureRows.model_validate(features["rows"]) if features else None,
        flow_channels=int(features.get("flow_channels", 0)),
    )
    if manifest.digest != notes["tadscale.digest"]:
        raise _other_digest(url)
    return replace(manifest, stated=(manifest.digest,))


def write_manifest(manifest: Manifest) -> None:
    """Write `manifest.parquet` beside the shards, row by row. Raises `StorageError`."""
    notes = {"tadscale.digest": manifest.digest, "tadscale.classes": json.dumps(manifest.classes)}
    if manifest.features is not None:
        notes["tadscale.features"] = json.dumps(_features_note(manifest))
    if manifest.extractor is not None:
        notes["tadscale.extractor"] = manifest.extractor.model_dump_json()
    write_manifest_file(join(manifest.url, MANIFEST_NAME), manifest.rows, notes)


def _features_note(manifest: Manifest) -> dict[str, Any]:
    assert manifest.features is not None
    return {"rows": manifest.features.model_dump(mode="json"), "flow_channels": manifest.flow_channels}
