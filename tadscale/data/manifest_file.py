"""Reading the manifest's file: the footer, a compact index, and then the rows that a process needs.

    PAR1     as Parquet begins
    layouts  of the videos that have one, one after the other: a row says where its own lies
    groups   `ROWS_PER_GROUP` videos each: Parquet's row groups, with all the other columns
    index    what a plan is made of (`INDEX`), of all videos: a Parquet table in itself
    footer   Parquet's; it says where groups and index lie, and their digests

Parquet readers go from the footer to the groups, so that any of them reads the table. All that is read here is verified by
the digests in the footer. Files of format 1 (all columns, the layouts too, in groups of a million rows) have no index.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tadscale.data.limits import MAX_LAYOUT_BYTES, fault_of_columns
from tadscale.data.storage import file_size, read_range, read_verified
from tadscale.errors import UserError

FORMAT = "2"
MAX_ROWS = 10_000_000
# A window's video is anywhere in the data set, so a group is read for one row of it: 512 rows are 89 kB, 2 % of a window of
# 25 s at 1.5 Mbit/s. A process holds 16 KB of Parquet's notes on every group, 31 MiB for a million videos; with 64 rows they
# would be 218 MiB, and take 2 s to parse.
ROWS_PER_GROUP = 512
GROUPS_KEPT = 16  # per process: 8,192 videos, so that of a small data set every group is read once
INDEX = ("duration_s", "frames", "subset", "labelled")
Place = tuple[int, int, str]
"""First byte, length and digest of a part of the file."""
TAIL_BYTES = 64 << 10  # read first: the footer of 16,000 videos
MAX_FOOTER_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class ManifestFile:
    """An open file of format 2; the same bytes at the same place are equal.

    Attributes:
        where: its URL.
        notes: what its writer noted in the footer.
        footer: digest of the footer, and by that of all the file.
        metadata: Parquet's, of the groups.
        groups: first byte, length and digest of every group.
        index: `[V]` columns of all videos, those of `INDEX`.
    """

    where: str
    notes: Mapping[str, str]
    footer: str
    metadata: Any
    groups: Sequence[Place]
    index: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.index["duration_s"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ManifestFile) and (self.where, self.footer) == (other.where, other.footer)

    def __hash__(self) -> int:
        return hash(self.footer)

    @cached_property
    def rows_per_group(self) -> int:
        """Of all groups but the last."""
        return int(self.metadata.row_group(0).num_rows)

    def table(self, group: int) -> Any:
        """A group as an Arrow table; those asked for last are kept. Raises `CorruptMember`, `StorageError`."""
        return _kept_table(self, group)

    def read(self, groups: Sequence[int]) -> list[bytes]:
        """The bytes of neighbouring groups, for `decode`, in one request. Raises as `table`."""
        places = [self.groups[group] for group in groups]
        data = _read_parts(self.where, places)
        return [data[at - places[0][0] : at - places[0][0] + size] for at, size, _ in places]

    def decode(self, group: int, data: bytes) -> Any:
        """The Arrow table of a group's bytes."""
        import pyarrow.parquet as pq

        piece = _Piece(data, self.groups[group][0])
        file = pq.ParquetFile(piece, metadata=self.metadata, page_checksum_verification=True)
        return file.read_row_group(group, use_threads=False)

    def layouts(self, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The layouts of rows, neighbours in the file, in one request.

        Raises:
            UserError: a row states what cannot be.
            CorruptMember: they are not those that the rows name.
            StorageError: the storage cannot be reached.
        """
        places = [_place_of_layout(self.where, row) for row in rows]
        held = [place for place in places if place[1]]
        if not held:
            return [b""] * len(rows)
        for (at, size, _), (behind, _, _) in pairwise([*held, self.groups[0]]):
            if at + size > behind:
                raise UserError(f"{self.where}: layouts do not lie one after the other: build the manifest again")
        first = held[0][0]
        data = _read_parts(self.where, held)
        return [data[at - first : at - first + size] if size else b"" for at, size, _ in places]


def _read_parts(where: str, places: Sequence[Place]) -> bytes:
    """The bytes from the first of some ascending parts to the end of the last, in one request, each part verified."""
    first, end = places[0][0], places[-1][0] + places[-1][1]

    def fault_of(data: bytes) -> str:
        for at, size, sha256 in places:
            if hashlib.sha256(data[at - first : at - first + size]).hexdigest() != sha256:
                return f"the digest of the {size} bytes at byte {at} is not {sha256[:12]}..."
        return ""

    return read_verified(where, first, end - first, fault_of)


def _place_of_layout(where: str, row: Mapping[str, Any]) -> Place:
    at, size, digest = row.get("layout_offset", 0), row.get("layout_bytes", 0), row.get("layout_sha256", "")
    if (
        not (isinstance(at, int) and isinstance(size, int) and isinstance(digest, str))
        or at < 0
        or (size and not digest)
    ):
        raise UserError(f"{where}: {str(row['key'])[:60]!r}: the place of its layout is none: build the manifest again")
    if not 0 <= size <= MAX_LAYOUT_BYTES:
        raise UserError(
            f"{where}: {str(row['key'])[:60]!r}: layout is of {size} bytes, expected at most {MAX_LAYOUT_BYTES}: build "
            "the manifest again"
        )
    return at, size, digest


@lru_cache(maxsize=GROUPS_KEPT)
def _kept_table(file: ManifestFile, group: int) -> Any:
    [data] = file.read([group])
    return file.decode(group, data)


class _Piece(io.RawIOBase):
    """A file of which only one piece is there."""

    def __init__(self, data: bytes, first: int) -> None:
        self._data, self._first, self._at = data, first, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = self._first + len(self._data)
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        start = self._at - self._first
        if start < 0 or size < 0:
            raise OSError("Parquet's notes lead outside the row group")
        part = self._data[start : start + size]
        self._at += len(part)
        return part


def open_manifest_file(where: str) -> ManifestFile | None:
    """Read footer and index; None of another format.

    Raises:
        UserError: footer or index make no sense.
        StorageError: there is no such file, or the storage cannot be reached.
        Exception: of Arrow, on a footer that is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer = _read_footer(where)
    metadata = pq.read_metadata(pa.BufferReader(footer))
    notes = {
        key.decode(): value.decode() for key, value in (metadata.metadata or {}).items() if key[:9] == b"tadscale."
    }
    if notes.get("tadscale.format") != FORMAT:
        return None
    if metadata.num_rows > MAX_ROWS:
        raise UserError(f"{where} states {metadata.num_rows} videos, at most {MAX_ROWS} are read: build it again")
    groups = [(int(first), int(size), str(sha256)) for first, size, sha256 in json.loads(notes.pop("tadscale.groups"))]
    index = _read_index(where, *json.loads(notes.pop("tadscale.index")))
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    alike = len(set(sizes[:-1])) <= 1 and sizes[-1:] <= sizes[:1]
    in_order = all(at > 0 and size > 0 for at, size, _ in groups) and all(
        at + size <= behind for (at, size, _), (behind, _, _) in pairwise(groups)
    )
    if not (in_order and alike and len(groups) == len(sizes) and len(index["duration_s"]) == metadata.num_rows):
        raise UserError(f"{where}: index, groups and footer do not fit together: build the manifest again")
    return ManifestFile(where, notes, hashlib.sha256(footer).hexdigest(), metadata, groups, index)


def _read_footer(where: str) -> bytes:
    size = file_size(where)
    tail = read_range(where, max(size - TAIL_BYTES, 0), min(size, TAIL_BYTES))
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != b"PAR1" or not 8 < needed <= min(size, MAX_FOOTER_BYTES):
        raise ValueError("it does not end as one")
    return tail[-needed:] if needed <= len(tail) else read_range(where, size - needed, needed)


def _read_index(where: str, first: int, size: int, sha256: str) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_range(where, int(first), int(size), str(sha256))
    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    if any(table[name].null_count for name in INDEX):
        raise UserError(f"{where}: the index has gaps: build the manifest again")
    subsets = table["subset"].combine_chunks().dictionary_encode()
    columns = {
        "duration_s": table["duration_s"].to_numpy().astype(np.float64),
        "frames": table["frames"].to_numpy().astype(np.int64),
        "subset": np.array(subsets.dictionary.to_pylist(), object)[subsets.indices.to_numpy()],
        "labelled": table["labelled"].to_numpy().astype(np.bool_),
    }
    if fault := fault_of_columns(columns):
        raise UserError(f"{where}: {fault}: build the manifest again")
    return columns
