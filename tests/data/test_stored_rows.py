"""Manifests whose rows stay in their file: the same data as read whole, of which no more is read than is asked for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tadscale.data import manifest_file
from tadscale.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    VideoRow,
    make_manifest,
    open_manifest,
    read_manifest,
    write_manifest,
)
from tadscale.data.manifest_file import ROWS_PER_GROUP, open_manifest_file
from tadscale.data.source import Source, open_sources, tile_sources
from tadscale.data.storage import join
from tadscale.data.stored_rows import StoredRows
from tadscale.data.windows import WindowConfig
from tests.data.test_manifest import write_format_1

COUNT = 2 * ROWS_PER_GROUP + 100
WINDOW = WindowConfig(frames=16, stride_frames=8)


def videos(url: str, prefix: str = "v", labels: tuple[str, ...] = ("jump", "run"), pad: int = 0) -> list[VideoRow]:
    some = [labels[: n % (len(labels) + 1)] for n in range(COUNT)]
    return [
        VideoRow(
            url=join(url, f"shard-{n // 50:06d}.tar"), key=f"{prefix}{n}", subset=("train", "test", "train")[n % 3],
            video_offset=512 * n, video_bytes=1 + n, video_sha256=f"{n:064x}", duration_s=1.0 + 0.7 * (n % 9), fps=10.0,
            frames=10 + n % 9, width=4, height=4, labels=of, start_s=(0.1,) * len(of), end_s=(0.9,) * len(of),
            layout=b"" if n % 4 else f"layout of {n}".encode() + bytes(pad),
        )
        for n, of in enumerate(some)
    ]  # fmt: skip


def plain(rows: object) -> list[object]:
    return [row._replace(label_ids=tuple(row.label_ids.tolist())) for row in rows]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """All rows in memory; and stored as they are now."""
    url = str(tmp_path_factory.mktemp("now"))
    manifest = make_manifest(url, videos(url))
    write_manifest(manifest)
    return manifest


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of every range that is read of a manifest."""
    sizes: list[int] = []
    for name in ("read_range", "read_verified"):
        real = getattr(manifest_file, name)

        def counting(url: str, offset: int, size: int, *more: object, real=real, **named: object) -> bytes:
            sizes.append(size)
            return real(url, offset, size, *more, **named)

        monkeypatch.setattr(manifest_file, name, counting)
    manifest_file._kept_table.cache_clear()
    yield sizes
    manifest_file._kept_table.cache_clear()


def test_rows_columns_and_digests_are_those_of_the_whole(held: Manifest) -> None:
    stored = open_manifest(held.url)
    assert isinstance(stored.rows, StoredRows)
    assert plain(stored.rows) == plain(held.rows)
    assert [row.layout for row in stored.facts()] == [b""] * COUNT
    for chosen in (stored.subset("train"), stored.subset("test")):
        whole = held.subset(chosen.row(0).subset)
        assert chosen.digest == whole.digest
        assert plain([chosen.row(index) for index in (5, 300, 3, -1)]) == plain(whole.rows[i] for i in (5, 300, 3, -1))
        for name in ("key", "url", "subset", "duration_s", "frames", "labelled", "source", "video_bytes", "fps"):
            assert chosen.column(name).tolist() == whole.column(name).tolist()
            assert chosen.column(name).dtype.kind == whole.column(name).dtype.kind
    assert plain(stored.rows[7:900:3]) == plain(held.rows[7:900:3])
    assert stored.digest == held.digest
    with pytest.raises(IndexError):
        stored.row(COUNT)


def test_one_that_was_written_before_gives_the_same_rows_digests_and_windows(held: Manifest, tmp_path: Path) -> None:
    url = str(tmp_path)
    write_format_1(replace(held, url=url))
    old = open_manifest(url)
    assert isinstance(old.rows, tuple)
    moved = [row._replace(url=join(held.url, row.shard)) for row in old.rows]
    assert plain(moved) == plain(held.rows)
    now = [open_sources((Source(url=place),)) for place in (url, held.url)]
    assert now[0].digest == now[1].digest
    tables = [tile_sources(manifest, WINDOW) for manifest in now]
    assert tables[0].digest == tables[1].digest
    write_manifest(read_manifest(url))  # written anew, it is one of today's
    assert isinstance(open_manifest(url).rows, StoredRows)
    assert plain(row._replace(url="") for row in open_manifest(url).rows) == plain(
        row._replace(url="") for row in held.rows
    )


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_no_more_is_read_than_is_asked_for(
    kind: str, held: Manifest, read: list[int], request: pytest.FixtureRequest
) -> None:
    url = held.url
    if kind == "s3":
        url = join(request.getfixturevalue("s3_url"), "groups")
        write_manifest(replace(held, url=url))
    manifest = open_manifest(url)
    assert len(read) == 2  # the footer and the index
    manifest.subset("train").column("duration_s")
    assert len(read) == 2
    groups = manifest.rows.parts[0].file.groups  # type: ignore[attr-defined]
    assert manifest.row(ROWS_PER_GROUP + 1).key == f"v{ROWS_PER_GROUP + 1}"  # it has no layout
    assert read[2:] == [groups[1][1]]
    assert manifest.row(ROWS_PER_GROUP + 4).layout == b"layout of 516"
    assert read[3:] == [len(b"layout of 516")]  # the group is still at hand
    list(manifest.facts())
    assert read[4:] == [sum(size for _, size, _ in groups)]  # neighbours in one request


def test_groups_that_were_not_asked_for_lately_are_forgotten(
    held: Manifest, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest_file._kept_table.cache_info().maxsize == manifest_file.GROUPS_KEPT
    manifest = open_manifest(held.url)
    for index in (1, 2, ROWS_PER_GROUP + 1, 2 * ROWS_PER_GROUP + 1, 3):
        manifest.row(index)
    assert len(read) == 2 + 3


def test_sources_are_joined_without_reading_their_rows(held: Manifest, read: list[int], tmp_path: Path) -> None:
    other = str(tmp_path)
    write_manifest(make_manifest(other, videos(other, "w", ("secret", "run"))))
    sources = Source(url=held.url), Source(url=other, labelled=False, share=0.25)
    del read[:]
    joined = open_sources(sources, verified=False)
    windows = tile_sources(joined, WINDOW)
    assert len(read) == 4
    whole = make_manifest(
        "both",
        [
            *held.subset("train").rows,
            *(
                row._replace(labels=(), start_s=(), end_s=(), labelled=False, source=1)
                for row in make_manifest(other, videos(other, "w")).subset("train").rows
            ),
        ],
        held.classes,
    )
    assert plain(joined.rows) == plain(whole.rows)
    assert joined.digest == whole.digest == open_sources(sources).digest
    assert windows.digest == tile_sources(whole, WINDOW).digest
    assert joined.stated == (held.digest, read_manifest(other).digest)


def damage(url: str, at: int) -> None:
    with open(join(url, MANIFEST_NAME), "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("part", ["layouts", "groups", "index", "footer"])
def test_damage_is_found_where_it_is_read(part: str, tmp_path: Path) -> None:
    url = str(tmp_path)
    write_manifest(make_manifest(url, videos(url)))
    file = open_manifest_file(join(url, MANIFEST_NAME))
    assert file is not None
    size = Path(url, MANIFEST_NAME).stat().st_size
    end_of_groups = file.groups[-1][0] + file.groups[-1][1]
    damage(
        url, {"layouts": 6, "groups": file.groups[1][0] + 50, "index": end_of_groups + 50, "footer": size - 700}[part]
    )
    if part in ("index", "footer"):
        with pytest.raises(ValueError, match="build the manifest again"):
            open_manifest(url)
        return
    manifest = open_manifest(url)
    assert manifest.row(1).key == "v1"
    with pytest.raises(ValueError, match=r"the digest of the \d+ bytes at byte .* build the manifest again"):
        manifest.row(0 if part == "layouts" else ROWS_PER_GROUP)
    if part == "groups":
        with pytest.raises(ValueError, match="build the manifest again"):
            read_manifest(url)


def test_a_run_goes_on_with_a_manifest_that_is_made_anew_and_not_with_other_videos(tmp_path: Path) -> None:
    url = str(tmp_path)
    rows = videos(url)
    write_manifest(make_manifest(url, [row._replace(layout=b"") for row in rows]))
    manifest = open_manifest(url)
    assert manifest.row(4).layout == b""
    write_manifest(make_manifest(url, videos(url, pad=5)))  # indexed anew: now with layouts
    assert manifest.row(ROWS_PER_GROUP).layout == b"layout of 512" + bytes(5)
    assert manifest.subset("test").row(0).key == "v1"
    write_manifest(make_manifest(url, [row._replace(fps=7.0) for row in rows]))
    with pytest.raises(ValueError, match="replaced by a manifest of other content"):
        manifest.row(2 * ROWS_PER_GROUP)


def test_all_of_it_is_verified_once_in_a_process(held: Manifest, read: list[int]) -> None:
    read_manifest(held.url)
    del read[:]
    read_manifest(held.url)
    assert len(read) == 2
