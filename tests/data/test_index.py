"""Shards that WebDataset itself wrote, as other people's pipelines do, get their manifest."""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from webdataset.writer import TarWriter

from tadscale.data.encode import encode_h264
from tadscale.data.index import Index, index_shards
from tadscale.data.lint import lint
from tadscale.data.manifest import read_manifest
from tadscale.data.quarantine import QuarantineBudget, QuarantineLedger
from tadscale.data.scan import Reading, find_shards
from tadscale.data.source import Source, open_sources
from tadscale.data.storage import join, read_range, upload
from tests.data.clips import numbered

VIDEOS = [encode_h264(numbered(20, first=20 * n), 10) for n in range(3)]
BORNE = QuarantineBudget(max_fraction=1.0)


def write(path: Path, samples: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, TarWriter(file) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def indexed(url: object, **reading: Any) -> tuple[Index, dict[str, str]]:
    ledger = QuarantineLedger(BORNE)
    index = index_shards(str(url), ledger, Reading(**reading))
    return index, {entry.key: entry.reason for entry in ledger}


def test_classes_by_number_in_a_brace_list_of_subsets(s3_url: str, tmp_path: Path) -> None:
    for subset, n in (("train", 0), ("train", 1), ("val", 2)):
        shard = write(tmp_path / "x", [{"__key__": f"{n:06d}", "mp4": VIDEOS[n], "cls": n % 2}])
        upload(shard, join(s3_url, "data", f"set-{subset}-{n % 2:03d}.tar"))
    url = join(s3_url, "data", "set-{train,val}-{000..000}.tar")
    index, bad = indexed(url, classes=("walk", "jump"))
    assert not bad
    read = read_manifest(join(s3_url, "data"))
    assert read.digest == index.manifest.digest
    assert [(row.key, row.subset, row.labels) for row in read.rows] == [
        ("000000", "train", ("walk",)),
        ("000002", "validation", ("walk",)),
    ]
    assert [(row.start_s, row.end_s) for row in read.rows] == [((0.0,), (2.0,))] * 2
    row = read.rows[1]
    assert read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256) == VIDEOS[2]


def test_of_two_videos_of_a_key_one_must_be_chosen(tmp_path: Path) -> None:
    samples = [{"__key__": "k0", "left.mp4": VIDEOS[0], "right.mp4": VIDEOS[1], "cls": "a"},
               {"__key__": "k1", "right.mp4": VIDEOS[2], "cls": "b"}]  # fmt: skip
    write(tmp_path / "train.tar", samples)
    index, bad = indexed(tmp_path)
    assert [row.key for row in index.manifest.rows] == ["k1"]
    assert "a second video of this key, besides .left.mp4" in bad["k0"]
    assert "--video-suffix right.mp4" in bad["k0"]
    index, bad = indexed(tmp_path, video_suffix="right.mp4")
    assert not bad
    assert index.passed_over == {"left.mp4": 1}
    rows = index.manifest.rows
    assert [read_range(r.url, r.video_offset, r.video_bytes, r.video_sha256) for r in rows] == VIDEOS[1:]


class Bomb:
    """Pickled, it says so when it is unpickled."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "exploded", True)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb())
    pickles = {"pyd": bomb, "pickle": bomb, "pth": bomb, "npy": b"x", "flow.npz": b"x"}
    write(tmp_path / "train.tar", [{"__key__": "k", "mp4": VIDEOS[0], "cls": "a", **pickles}])
    index, bad = indexed(tmp_path)
    assert not bad
    assert index.passed_over == dict.fromkeys(pickles, 1)
    assert not Bomb.exploded
    pickle.loads(bomb)
    assert Bomb.exploded  # it would have


def test_an_annotation_file_goes_before_what_lies_beside_the_video(tmp_path: Path) -> None:
    samples = [{"__key__": f"k{n}", "mp4": VIDEOS[n], "json": {"fps": 10}} for n in range(2)]
    write(tmp_path / "a.tar", [*samples, {"__key__": "k2", "mp4": VIDEOS[2], "json": {"label": "run"}}])
    annotation = {"subset": "Testing", "annotations": [{"label": "jump", "segment": [0.5, 1]}]}
    index, bad = indexed(tmp_path, annotations={"k0": annotation}, subset="train")
    assert [(row.key, row.subset, row.labels) for row in index.manifest.rows] == [
        ("k0", "test", ("jump",)), ("k2", "train", ("run",))
    ]  # fmt: skip
    assert "unknown form (the keys ['fps'])" in bad["k1"]


def test_the_subset_must_be_known_from_somewhere(tmp_path: Path) -> None:
    said = {"__key__": "k1", "mp4": VIDEOS[1], "json": {"label": "a", "subset": "val"}}
    write(tmp_path / "strain-0.tar", [{"__key__": "k0", "mp4": VIDEOS[0], "cls": "a"}, said])
    index, bad = indexed(tmp_path)
    assert [(row.key, row.subset) for row in index.manifest.rows] == [("k1", "validation")]
    assert "--subset" in bad["k0"]


def test_videos_without_annotations_are_a_source_without_labels(tmp_path: Path) -> None:
    samples = [{"__key__": f"k{n}", "mp4": VIDEOS[n], "txt": "a caption"} for n in range(3)]
    write(tmp_path / "a.tar", samples)
    index, bad = indexed(tmp_path, labelled=False, subset="train")
    assert not bad
    assert index.passed_over == {"txt": 3}
    with pytest.raises(ValueError, match="indexed without annotations"):
        open_sources([Source(url=str(tmp_path))])
    assert len(open_sources([Source(url=str(tmp_path), labelled=False)])) == 3


def test_lint_understands_what_index_understood(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [{"__key__": f"k{n}", "mp4": VIDEOS[n], "cls": n} for n in range(3)])
    reading = {"classes": ("x", "y", "z"), "subset": "test"}
    indexed(tmp_path, **reading)
    assert lint(str(tmp_path), Reading(**reading)).ok
    other = lint(str(tmp_path), Reading(**(reading | {"subset": "train"})))
    assert any("k0: subset of the manifest and of a.tar differ" in error for error in other.errors)


def test_shards_by_name(tmp_path: Path) -> None:
    base = str(tmp_path)
    assert find_shards(f"{base}/x-{{008..010}}.tar") == [f"{base}/x-{n}.tar" for n in ("008", "009", "010")]
    assert find_shards(f"{base}/x.tar") == [f"{base}/x.tar"]
    assert find_shards("x-{0..1}.tar") == ["./x-0.tar", "./x-1.tar"]
    with pytest.raises(ValueError, match="spans folders"):
        find_shards(f"{base}/{{a,b}}/x.tar")
    with pytest.raises(ValueError, match="not the name of a shard"):
        find_shards(f"{base}/x-{{0..1}}")
    with pytest.raises(ValueError, match="Unbalanced braces"):
        find_shards(f"{base}/x-{{0..1.tar")


def test_notes_in_json_are_ours_too(tmp_path: Path) -> None:
    note = {"subset": "train", "annotations": [{"label": "a", "segment": [0, 1]}]}
    write(tmp_path / "a.tar", [{"__key__": "folder/k", "mkv": VIDEOS[0], "json": json.dumps(note)}])
    index, bad = indexed(tmp_path)
    assert not bad
    assert [(row.key, row.labels, row.end_s) for row in index.manifest.rows] == [("folder/k", ("a",), (1.0,))]
