"""Rows of manifests that stay in their files: columns are at hand, a row is read when it is asked for."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tadscale.data.manifest_file import INDEX, ManifestFile, open_manifest_file
from tadscale.data.storage import CorruptMember
from tadscale.data.video_row import LISTS, VideoRow, row_of, unknown_label
from tadscale.errors import UserError

log = logging.getLogger(__name__)
OWN_COLUMNS = ("key", "video_bytes")  # scalars as the file has them, beside the index's
LAYOUT_PLACE = ("layout_offset", "layout_bytes", "layout_sha256")
UNCOUNTED = ("shard", "video_offset", "flow_offset", *LAYOUT_PLACE)  # where bytes lie
SCAN_BYTES = 4 << 20  # of neighbouring groups in one request, where all rows are gone through: 30,000 videos
T = TypeVar("T")


class Part(NamedTuple):
    """One file among those of a manifest, and what its rows are in it."""

    url: str
    """Folder of the shards."""
    file: ManifestFile
    ids: Mapping[str, int]
    """Numbers of the labels."""
    source: int = 0
    """Of a run."""
    labelled: bool = True
    """False: nothing is taken from the annotations."""


class _Run(NamedTuple):
    """Rows of one group that follow each other."""

    part: int
    group: int
    within: NDArray[np.int64]
    """Their numbers in the group."""


@dataclass(frozen=True, eq=False)
class StoredRows(Sequence[VideoRow]):
    """A selection of the rows of one or more files. Takes 5 bytes a row, besides the files' indices.

    A file that is replaced by one of the same content, as indexing anew does, is opened again.

    Attributes:
        parts: the files; replaced ones are exchanged.
        part: `[V]` which of them.
        at: `[V]` number of the row in it.
    """

    parts: list[Part]
    part: NDArray[np.int8] = field(repr=False)
    at: NDArray[np.int32] = field(repr=False)

    @classmethod
    def of(cls, part: Part) -> "StoredRows":
        """All rows of a file."""
        return cls([part], np.zeros(len(part.file), np.int8), np.arange(len(part.file), dtype=np.int32))

    @classmethod
    def joined(cls, several: Sequence["StoredRows"]) -> "StoredRows":
        """All rows of several selections, one after the other."""
        before = np.cumsum([0, *(len(rows.parts) for rows in several)])
        numbers = [rows.part + np.int8(first) for rows, first in zip(several, before, strict=False)]
        parts = [part for rows in several for part in rows.parts]
        return cls(parts, np.concatenate(numbers), np.concatenate([rows.at for rows in several]))

    def take(self, chosen: NDArray[Any]) -> "StoredRows":
        """Some of them, by number or by mask."""
        return StoredRows(self.parts, self.part[chosen], self.at[chosen])

    def with_parts(self, **changes: Any) -> "StoredRows":
        """The same rows, each file's being something else in the manifest."""
        return StoredRows([part._replace(**changes) for part in self.parts], self.part, self.at)

    def __len__(self) -> int:
        return len(self.at)

    @overload
    def __getitem__(self, index: int) -> VideoRow: ...

    @overload
    def __getitem__(self, index: slice) -> "StoredRows": ...

    def __getitem__(self, index: int | slice) -> "VideoRow | StoredRows":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        [row] = self.take(np.array([index % len(self)]))
        return row

    def __iter__(self) -> Iterator[VideoRow]:
        for run in self._runs():
            yield from self._rows(run, *self._read(run.part, partial(_with_layouts, run=run)))

    def facts(self) -> Iterator[VideoRow]:
        """The rows without their layouts, which are most of a manifest: what most readers of all rows want."""
        for run, table in self._tables():
            yield from self._rows(run, table.to_pylist())

    def described(self) -> Iterator[dict[str, Any]]:
        """What a manifest's digest covers of the rows, and no check of what they say: reading the manifest has done that."""
        for run, table in self._tables():
            labelled = self.parts[run.part].labelled
            for row in table.drop_columns([name for name in UNCOUNTED if name in table.column_names]).to_pylist():
                taken = {name: (row[name] if labelled else None) or () for name in LISTS}
                yield row | taken | ({} if labelled else {"labelled": False})

    def column(self, name: str) -> NDArray[Any]:
        """One scalar field of all rows, `[V]`; those of the index and `source` without reading rows."""
        if name == "source":
            return np.array([part.source for part in self.parts])[self.part]
        if name in INDEX:
            return self._indexed(name)
        if name in OWN_COLUMNS:
            return np.array([value for _, table in self._tables() for value in table[name].to_pylist()])
        return np.array([getattr(row, name) for row in self.facts()])

    def _indexed(self, name: str) -> NDArray[Any]:
        columns = [part.file.index[name] for part in self.parts]
        if name == "labelled":
            columns = [column & part.labelled for column, part in zip(columns, self.parts, strict=True)]
        first = np.cumsum([0, *map(len, columns)])[self.part]
        values = np.concatenate(columns)[first + self.at]
        return values.astype(str) if name == "subset" else values

    def _rows(
        self, run: _Run, columns: list[dict[str, Any]], layouts: Sequence[bytes] | None = None
    ) -> Iterator[VideoRow]:
        part = self.parts[run.part]
        for nth, row in enumerate(columns):
            for name in LAYOUT_PLACE:
                row.pop(name, None)
            row["layout"] = layouts[nth] if layouts else b""
            number = run.group * part.file.rows_per_group + int(run.within[nth])
            yield _as_part(row_of(part.url, row, number), part)

    def _tables(self) -> Iterator[tuple[_Run, Any]]:
        """All rows, group by group, as Arrow tables."""
        for span in self._spans():
            groups = [run.group for run in span]
            pieces = self._read(span[0].part, partial(ManifestFile.read, groups=groups))
            for run, data in zip(span, pieces, strict=True):
                yield run, self.parts[run.part].file.decode(run.group, data).take(run.within)

    def _runs(self) -> Iterator[_Run]:
        """The selection, cut where part or group changes."""
        sizes = np.array([part.file.rows_per_group for part in self.parts])
        groups, within = np.divmod(self.at.astype(np.int64), sizes[self.part])
        cuts = np.flatnonzero(np.diff(groups) | np.diff(self.part)) + 1
        for first, end in pairwise([0, *cuts.tolist(), len(self)]):
            yield _Run(int(self.part[first]), int(groups[first]), within[first:end])

    def _spans(self) -> Iterator[list[_Run]]:
        """Runs of neighbouring groups, as many as are read together."""
        span: list[_Run] = []
        for run in self._runs():
            follows = span and run.part == span[-1].part and run.group == span[-1].group + 1
            if span and not (follows and self._bytes(span[0], run) <= SCAN_BYTES):
                yield span
                span = []
            span.append(run)
        if span:
            yield span

    def _bytes(self, first: _Run, last: _Run) -> int:
        groups = self.parts[first.part].file.groups
        return groups[last.group][0] + groups[last.group][1] - groups[first.group][0]

    def _read(self, part: int, read: Callable[[ManifestFile], T]) -> T:
        """Read of a file, and once more if it was replaced meanwhile by one of the same content."""
        file = self.parts[part].file
        try:
            return read(file)
        except CorruptMember as error:
            self.parts[part] = self.parts[part]._replace(file=_reopened(file, error))
        try:
            return read(self.parts[part].file)
        except CorruptMember as error:
            raise UserError(f"{error}; build the manifest again") from error


def _with_layouts(file: ManifestFile, run: _Run) -> tuple[list[dict[str, Any]], list[bytes]]:
    columns = file.table(run.group).take(run.within).to_pylist()
    return columns, file.layouts(columns)


def _as_part(row: VideoRow, part: Part) -> VideoRow:
    if not part.labelled:
        return row._replace(labels=(), start_s=(), end_s=(), labelled=False, source=part.source)
    for label in row.labels:
        if label not in part.ids:
            raise UserError(unknown_label(row, label, part.ids))
    ids = np.array([part.ids[label] for label in row.labels], np.int64)
    return row._replace(label_ids=ids, source=part.source)


def _reopened(file: ManifestFile, error: CorruptMember) -> ManifestFile:
    """The file that has taken another's place."""
    fresh = open_manifest_file(file.where)
    if fresh is None or fresh.notes != file.notes or len(fresh) != len(file):
        raise UserError(
            f"{file.where} was replaced by a manifest of other content while it was in use ({error}): start again"
        ) from error
    log.info("%s was replaced by one of the same content, and is opened again", file.where)
    return fresh
