"""Sources: the sets of shards that a run trains on, and the one manifest of them all."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from tadscale.config import Config
from tadscale.data.manifest import Manifest, VideoRow, make_manifest, open_manifest, read_manifest
from tadscale.data.segment_windows import segment_windows
from tadscale.data.storage import same_place
from tadscale.data.stored_rows import StoredRows
from tadscale.data.windows import WindowConfig, WindowTable, tile
from tadscale.errors import UserError


class Source(Config):
    """Videos to train on: one subset of one set of shards."""

    url: str = Field(min_length=1)
    """Shards with their manifest."""
    subset: str = "train"
    """Which of the manifest's videos."""
    labelled: bool = True
    """Whether the annotations are ground truth. If not, they are not read, and a window of these videos is one of which
    nothing is known: it is not background."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of every global batch that this source fills, gone through again and again in orders of its own. By default
    its windows are shuffled among those of all sources without a share, and come exactly once an epoch."""


def open_sources(sources: Sequence[Source], *, verified: bool = True) -> Manifest:
    """One manifest over all sources, in their order; its rows know their source and whether they are labelled.

    The classes are those of the labelled sources together, sorted.

    Args:
        sources: at least one.
        verified: read all that the manifests hold, once, and verify it. False: another process has done so, and rows are
            read when they are asked for.

    Raises:
        UserError: there is no source, no manifest, or no video of a subset; one key is in two sources; or a source that
            is called labelled holds videos that were indexed without annotations.
        StorageError: the storage cannot be reached.
    """
    if not sources:
        raise UserError("no source of training data: name at least one, with its url")
    parts = [_open(index, source, verified) for index, source in enumerate(sources)]
    if len(parts) == 1:
        return parts[0]
    if verified:
        _refuse_twins(parts)
    _refuse_other_content(parts)
    classes = {label for part, source in zip(parts, sources, strict=True) if source.labelled for label in part.classes}
    return _joined(parts, sorted(classes))


def open_videos(url: str, sources: Sequence[Source]) -> Manifest:
    """One manifest over all videos that a job reads: those under its URL, of whatever subset, and its sources elsewhere.

    Raises:
        UserError, StorageError: see `open_sources`.
    """
    whole = read_manifest(url)
    elsewhere = [source for source in sources if not same_place(source.url, url)]
    if not elsewhere:
        return whole
    parts = [whole, *(_open(index, source, verified=True) for index, source in enumerate(elsewhere, start=1))]
    _refuse_twins(parts)
    _refuse_other_content(parts)
    return _joined(parts, sorted({label for part in parts for label in part.classes}))


def tile_sources(manifest: Manifest, config: WindowConfig) -> WindowTable:
    """All windows of a manifest, which know their source and whether they are labelled. Raises as `tile`."""
    return _of_sources(tile(manifest, config), manifest)


def training_windows(manifest: Manifest, config: WindowConfig, seed: int) -> WindowTable:
    """The windows that are trained on, by `config.sampling`; they know their source and whether they are labelled.

    The same in every process: a pure function. Where segments decide, each reads all rows of the manifest for it.

    Args:
        manifest: as `open_sources` has it.
        config: how videos are cut.
        seed: of what is drawn; a tiling draws nothing.

    Raises:
        UserError: see `tile`.
    """
    if config.sampling == "tile":
        return tile_sources(manifest, config)
    return _of_sources(segment_windows(manifest, config, seed), manifest)


def _of_sources(table: WindowTable, manifest: Manifest) -> WindowTable:
    return replace(
        table,
        labelled=manifest.column("labelled").astype(np.bool_)[table.video],
        source=manifest.column("source").astype(np.int16)[table.video],
    )


def _open(index: int, source: Source, verified: bool) -> Manifest:
    manifest = (read_manifest if verified else open_manifest)(source.url).subset(source.subset)
    bare = np.flatnonzero(~manifest.column("labelled"))
    if source.labelled and len(bare):
        raise UserError(
            f"{source.url}: {len(bare)} videos of subset {source.subset!r} were indexed without annotations "
            f"({manifest.row(int(bare[0])).key}, ...), and would be trained as background: set labelled: false for this "
            "source, or index it with annotations"
        )
    rows, classes = manifest.rows, manifest.classes if source.labelled else ()
    if isinstance(rows, StoredRows):
        return replace(manifest, classes=classes, rows=rows.with_parts(source=index, labelled=source.labelled))
    if source.labelled:
        return replace(manifest, rows=tuple(row._replace(source=index) for row in rows))
    return replace(manifest, classes=(), rows=tuple(_without_labels(row, index) for row in rows))


def _without_labels(row: VideoRow, source: int) -> VideoRow:
    return row._replace(labels=(), start_s=(), end_s=(), label_ids=row.label_ids[:0], labelled=False, source=source)


def _joined(parts: Sequence[Manifest], classes: Sequence[str]) -> Manifest:
    url, first = " + ".join(part.url for part in parts), parts[0]
    stated = tuple(digest for part in parts for digest in part.stated)
    stored = [part.rows for part in parts if isinstance(part.rows, StoredRows)]
    if len(stored) == len(parts):
        ids = {label: index for index, label in enumerate(classes)}
        rows = StoredRows.joined([some.with_parts(ids=ids) for some in stored])
        return replace(first, url=url, classes=tuple(classes), rows=rows, stated=stated, extractor=None)
    every = (row for part in parts for row in part.rows)
    joined = make_manifest(url, every, classes, features=first.features, flow_channels=first.flow_channels)
    return replace(joined, stated=stated)


def _refuse_other_content(parts: Sequence[Manifest]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if (part.features, part.flow_channels) != (first.features, first.flow_channels):
            raise UserError(
                f"{part.url} and {first.url} cannot be trained on together: one holds videos and the other features, or "
                f"features of another kind ({part.features}, {first.features}); leave one source out"
            )


def _refuse_twins(parts: Sequence[Manifest]) -> None:
    seen: dict[str, tuple[Manifest, int]] = {}
    for part in parts:
        for index, key in enumerate(part.column("key").tolist()):
            if key in seen:
                other, place = seen[key]
                raise UserError(
                    f"key {key!r} is in two sources, {other.row(place).url} and {part.row(index).url}: a video is known by "
                    "its key; rename one, or leave one source out"
                )
            seen[key] = (part, index)
