"""The manifest comes back as it was written, knows its identity, and refuses what is not itself."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tadscale.data import manifest_writer
from tadscale.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    VideoRow,
    make_manifest,
    open_manifest,
    read_manifest,
    write_manifest,
)
from tadscale.data.storage import StorageError, join, write_bytes
from tadscale.data.video_row import columns_of
from tests.s3 import free_port


def row(key: str, labels: tuple[str, ...] = (), **changes: object) -> VideoRow:
    facts = {
        "url": "u/shard-000000.tar",
        "subset": "train",
        "video_offset": 512,
        "video_bytes": 99,
        "video_sha256": "ab" * 32,
        "duration_s": 4.0,
        "fps": 29.97,
        "frames": 120,
        "width": 320,
        "height": 240,
        "start_s": tuple(0.1 * n for n in range(len(labels))),
        "end_s": tuple(1.0 + n for n in range(len(labels))),
    }
    return VideoRow(key=key, labels=labels, **(facts | changes))


ROWS = [row("b", ("run", "jump")), row("a", subset="test"), row("c", ("jump",), duration_s=4 / 3)]


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_what_is_written_is_read(kind: str, request: pytest.FixtureRequest, tmp_path: object) -> None:
    url = str(tmp_path) if kind == "local" else join(request.getfixturevalue("s3_url"), "data")
    rows = [some._replace(url=join(url, "shard-000000.tar")) for some in ROWS]
    written = make_manifest(url, rows, ["run", "jump", "walk"])
    write_manifest(written)
    read = read_manifest(url)
    assert read.classes == ("jump", "run", "walk")
    assert read.digest == written.digest
    assert [r._replace(label_ids=None) for r in read.rows] == [r._replace(label_ids=None) for r in written.rows]
    assert [r.label_ids.tolist() for r in read.rows] == [[1, 0], [], [0]]
    assert read.row(0).url == join(url, "shard-000000.tar")
    assert read.column("key").tolist() == ["b", "a", "c"]  # the order is kept
    assert read.duration_s.dtype == np.float64
    assert str(read).startswith("3 videos (test 1, train 2), 0.00 h, 3 classes")


def test_other_tools_can_read_the_parquet_file(tmp_path: object) -> None:
    write_manifest(make_manifest(str(tmp_path), ROWS))
    table = pq.read_table(join(str(tmp_path), MANIFEST_NAME))
    assert table.column("shard").to_pylist() == ["shard-000000.tar"] * 3
    assert table.column("labels").to_pylist() == [["run", "jump"], [], ["jump"]]
    assert table.schema.field("start_s").type == pa.list_(pa.float64())


def test_a_subset_keeps_order_and_classes() -> None:
    manifest = make_manifest("u", ROWS)
    assert [r.key for r in manifest.subset("train").rows] == ["b", "c"]
    assert manifest.subset("test").classes == ("jump", "run")
    assert manifest.subset("test").digest != manifest.subset("train").digest != manifest.digest
    with pytest.raises(ValueError, match=r"no video of subset 'validation'; valid here: test, train"):
        manifest.subset("validation")


def test_the_digest_is_that_of_the_content_and_not_of_the_place() -> None:
    moved = [r._replace(url="s3://elsewhere/other-7.tar", video_offset=7 * 512, layout=b"other") for r in ROWS]
    assert make_manifest("s3://elsewhere", moved).digest == make_manifest("u", ROWS).digest


@pytest.mark.parametrize("name", ["key", "subset", "video_bytes", "video_sha256", "duration_s", "fps", "frames",
                                  "width", "height", "labels", "start_s", "end_s"])  # fmt: skip
def test_the_digest_changes_with_every_fact(name: str) -> None:
    value = getattr(ROWS[0], name)
    other = {str: "other", int: 7, float: 7.5, tuple: value[::-1] if isinstance(value, tuple) else None}[type(value)]
    assert make_manifest("u", [ROWS[0]._replace(**{name: other}), *ROWS[1:]]).digest != make_manifest("u", ROWS).digest


def test_the_digest_changes_with_order_classes_and_number() -> None:
    base = make_manifest("u", ROWS)
    others = [
        make_manifest("u", ROWS[::-1]),
        make_manifest("u", ROWS, ["run", "jump", "x"]),
        make_manifest("u", ROWS[:2]),
    ]
    assert base.digest not in {other.digest for other in others}


def test_labels_out_of_the_class_list_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"b\.json: label 'run' is not in the class list; did you mean `runs`"):
        make_manifest("u", ROWS, ["jump", "runs", "walk"])


def test_two_videos_of_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"key 'a' occurs twice, in shard-000000\.tar and x\.tar"):
        make_manifest("u", [*ROWS, row("a", url="u/x.tar")])


def test_no_video_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no usable video"):
        make_manifest("u", [])


def write_format_1(manifest: Manifest, **changes: object) -> None:
    """As manifests were written before: all columns with the layouts, in one group, without an index."""
    rows = []
    for video in manifest.rows:
        facts = {"shard": video.shard, **video._asdict()} | changes
        rows.append({name: value for name, value in facts.items() if name not in ("url", "label_ids", "source")})
    lists = {"labels": pa.list_(pa.string()), "start_s": pa.list_(pa.float64()), "end_s": pa.list_(pa.float64())}
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}
    plain = {"shard": "s", **ROWS[0]._asdict()}
    schema = {name: lists.get(name) or types[type(plain[name])] for name in rows[0]}
    notes = {
        "tadscale.format": "1",
        "tadscale.digest": manifest.digest,
        "tadscale.classes": json.dumps(manifest.classes),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema.items(), metadata=notes)), sink)
    write_bytes(join(manifest.url, MANIFEST_NAME), sink.getvalue().to_pybytes())


def write_forged(manifest: Manifest, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """As manifests are written now, by one who states other values and the digests that go with them."""
    with monkeypatch.context() as patch:
        patch.setattr(manifest_writer, "columns_of", lambda row: columns_of(row) | changes)
        write_manifest(manifest)


def test_a_manifest_that_is_none_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    url, at = str(tmp_path), join(str(tmp_path), MANIFEST_NAME)
    with pytest.raises(ValueError, match=r"does not exist: the URL .* is wrong"):
        read_manifest(url)
    write_bytes(at, b"PAR1 rubbish PAR1")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_manifest(url)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    write_bytes(at, sink.getvalue().to_pybytes())
    with pytest.raises(ValueError, match="not a manifest of a format"):
        read_manifest(url)
    manifest = make_manifest(url, ROWS)
    write_manifest(manifest)
    write_format_1(manifest, duration_s=6.0)
    with pytest.raises(ValueError, match="digest of its content"):
        read_manifest(url)
    write_forged(manifest, monkeypatch, fps=6.0)
    with pytest.raises(ValueError, match="digest of its content"):
        read_manifest(url)
    write_forged(manifest, monkeypatch, duration_s=6.0)
    with pytest.raises(ValueError, match="the index says"):
        read_manifest(url)
    write_format_1(manifest, shard="../../etc/x.tar")
    with pytest.raises(ValueError, match="not the file name of a shard"):
        read_manifest(url)


ABSURD = {
    "key": (None, "", "../x", "\x00"),
    "subset": (None, ""),
    "video_offset": (None, -1, 2**62),
    "video_bytes": (None, 0, -5, 2**62),
    "video_sha256": (None, "", "ab" * 31, "AB" * 32),
    "duration_s": (None, float("nan"), float("inf"), -1.0, 0.0, 1e12),
    "fps": (None, float("nan"), 0.0, 1e9),
    "frames": (None, 0, -1),
    "width": (None, 0, 2**40),
    "height": (None, 0, 2**40),
    "labels": (None, ["run"], [None, "x"]),
    "start_s": (None, [float("nan"), 0.0], [-1.0, 0.0], [1e12, 0.0]),
    "end_s": (None, [float("nan"), 1.0], [0.0, 1.0], [1e12, 1e12]),
    "shard": (None, ""),
}


CASES = [(name, value) for name, values in ABSURD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
@pytest.mark.parametrize("form", ["1", "2"])
def test_absurd_values_are_refused_by_name_even_where_the_digest_is_right(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, name: str, value: object, form: str
) -> None:
    """An empty digest would switch verification off, 2^62 bytes would take all memory."""
    manifest = make_manifest(str(tmp_path), ROWS[:1])
    if form == "1":
        monkeypatch.setattr(
            Manifest, "digest", "0" * 64
        )  # whoever forges a manifest states the digest that goes with it
        write_format_1(manifest, **{name: value})
    else:
        write_forged(manifest, monkeypatch, **{name: value})
        with pytest.raises(ValueError, match="build the manifest again"):
            open_manifest(str(tmp_path)).row(0)
    with pytest.raises(ValueError, match="build the manifest again"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("form", ["1", "2"])
def test_layouts_are_kept_and_may_not_be_huge(tmp_path: object, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = write_format_1 if form == "1" else write_manifest
    manifest = make_manifest(str(tmp_path), [ROWS[0]._replace(layout=b"\x01\x00\xff"), *ROWS[1:]])
    write(manifest)
    assert [row.layout for row in read_manifest(manifest.url).rows] == [b"\x01\x00\xff", b"", b""]
    write(make_manifest(str(tmp_path), [ROWS[0]._replace(layout=bytes(2 << 20)), *ROWS[1:]]))
    with pytest.raises(ValueError, match=r"layout is .*build the manifest again"):
        read_manifest(manifest.url).row(0)


def test_storage_out_of_reach_is_not_a_missing_manifest(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadscale.data.storage.time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageError, match="cannot be reached"):
        read_manifest(s3_url)
