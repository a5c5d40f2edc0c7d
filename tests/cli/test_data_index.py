"""`tadscale data index`, on shards that WebDataset wrote."""

import json
from pathlib import Path

from webdataset.writer import TarWriter

from tadscale.cli import main
from tadscale.data.encode import encode_h264
from tadscale.data.manifest import read_manifest
from tests.data.clips import numbered

VIDEO = encode_h264(numbered(20), 10)


def shards(folder: Path) -> None:
    for n in range(2):
        with (folder / f"x-{n}.tar").open("wb") as file, TarWriter(file) as writer:
            writer.write({"__key__": f"k{n}", "mp4": VIDEO, "cls": n, "flac": b"sound"})
    (folder / "classes.txt").write_text("jump\nlong jump\n")


def test_index_ends_with_a_table_and_lint_agrees(tmp_path, capsys):
    shards(tmp_path)
    with (tmp_path / "x-2.tar").open("wb") as file, TarWriter(file) as writer:
        writer.write({"__key__": "k2", "mp4": VIDEO, "json": {"width": 64}})
    options = ["--classes", str(tmp_path / "classes.txt"), "--subset", "train"]
    assert main(["data", "index", f"{tmp_path}/x-{{0..2}}.tar", *options]) == 0
    text = capsys.readouterr().out
    expected = (
        "2 (train 2)",
        "2 (0 mended)",
        "2 (flac 2)",
        "x-2.tar: k2: k2.json has an unknown form",
        "[start_s, end_s]",
    )
    assert [words for words in expected if words not in text] == []
    assert read_manifest(str(tmp_path)).classes == ("jump", "long jump")
    assert main(["data", "lint", f"{tmp_path}/x-{{0..1}}.tar", *options]) == 0


def test_an_annotation_file_by_key(tmp_path, capsys):
    shards(tmp_path)
    entry = {"subset": "test", "annotations": [{"label": "run", "segment": [0, 1]}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"k0": entry, "k1": entry}}))
    assert main(["data", "index", str(tmp_path), "--annotations", str(tmp_path / "a.json")]) == 0
    assert "2 (test 2)" in capsys.readouterr().out
    assert [row.labels for row in read_manifest(str(tmp_path)).rows] == [("run",), ("run",)]


def test_videos_without_annotations(tmp_path, capsys):
    shards(tmp_path)
    assert main(["data", "index", str(tmp_path), "--unlabelled", "--subset", "train"]) == 0
    assert "labelled: false" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path, capsys):
    shards(tmp_path)
    (tmp_path / "twice.txt").write_text("a\na\n")
    assert main(["data", "index", str(tmp_path)]) == 1
    assert "name the classes in their order (--classes)" in capsys.readouterr().err
    assert main(["data", "index", str(tmp_path), "--classes", str(tmp_path / "twice.txt")]) == 1
    assert "'a' is in it twice" in capsys.readouterr().err
    (tmp_path / "latin.txt").write_bytes("jump\nfl\xfcchten\n".encode("latin-1"))
    assert main(["data", "index", str(tmp_path), "--classes", str(tmp_path / "latin.txt")]) == 1
    assert "latin.txt is not text in UTF-8 (byte 7): save the class list as UTF-8" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_part_of_a_class(tmp_path):
    shards(tmp_path)
    (tmp_path / "classes.txt").write_text("jump\nrun\n", encoding="utf-8-sig")
    assert main(["data", "index", str(tmp_path), "--classes", str(tmp_path / "classes.txt"), "--subset", "train"]) == 0
    assert read_manifest(str(tmp_path)).classes == ("jump", "run")
