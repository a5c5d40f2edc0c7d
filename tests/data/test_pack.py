"""One's own videos into shards: from a folder and an annotation file to windows."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.decode import decode_frames
from tadscale.data.encode import encode_h264
from tadscale.data.index import index_shards
from tadscale.data.manifest import read_manifest
from tadscale.data.pack import LEDGER_NAME, pack
from tadscale.data.quarantine import QuarantineBudget, QuarantineExceeded, QuarantineLedger
from tadscale.data.storage import join, list_names, read_bytes, read_range, upload
from tadscale.data.transcode import Transcode
from tadscale.errors import UserError
from tests.data.clips import encode_clip, numbered, read_numbers

BORNE = QuarantineBudget(max_fraction=1.0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of videos as users have them, and their annotations."""
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "one.mp4").write_bytes(encode_h264(numbered(30), 10))
    (videos / "v_two.mkv").write_bytes(encode_clip(numbered(30), container="matroska"))
    (videos / "stranger.mp4").write_bytes(encode_h264(numbered(5), 10))
    (videos / "notes.txt").write_text("hello")
    entry = {"subset": "training", "duration": "3", "annotations": [{"label": "a", "segment": ["1", "2"]}]}
    database = dict.fromkeys(("one", "two", "gone"), entry)
    (tmp_path / "annotations.json").write_text(json.dumps({"version": "x", "database": database}))
    return tmp_path


def test_a_folder_and_its_annotations_become_shards(home: Path) -> None:
    ledger, told = QuarantineLedger(BORNE), []
    packed = pack(
        str(home / "videos"),
        str(home / "annotations.json"),
        str(home / "out"),
        ledger=ledger,
        watch=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    manifest = read_manifest(str(home / "out"))
    assert manifest.digest == packed.manifest.digest
    assert [(row.key, row.subset, row.labels) for row in manifest.rows] == [
        ("one", "train", ("a",)),
        ("two", "train", ("a",)),
    ]
    row = manifest.row(1)
    assert read_range(row.url, row.video_offset, row.video_bytes) == (home / "videos" / "v_two.mkv").read_bytes()
    assert [entry.key for entry in ledger] == ["gone"]
    assert json.loads(read_bytes(join(str(home / "out"), LEDGER_NAME)))["key"] == "gone"
    assert packed.strangers == ("stranger.mp4",)
    assert packed.warnings == ()
    assert packed.ledger_url == join(str(home / "out"), LEDGER_NAME)


def test_from_object_storage_to_object_storage(home: Path, s3_url: str) -> None:
    for path in (home / "videos").iterdir():
        upload(path, join(s3_url, "raw", path.name))
    upload(home / "annotations.json", join(s3_url, "a.json"))
    pack(join(s3_url, "raw"), join(s3_url, "a.json"), join(s3_url, "out"), ledger=QuarantineLedger(BORNE))
    assert [row.key for row in read_manifest(join(s3_url, "out")).rows] == ["one", "two"]


def test_the_budget_holds_for_missing_videos_and_the_reasons_are_kept(home: Path) -> None:
    with pytest.raises(QuarantineExceeded, match="1 of 3 videos"):
        ledger = QuarantineLedger(QuarantineBudget(max_fraction=0))
        pack(str(home / "videos"), str(home / "annotations.json"), str(home / "out"), ledger=ledger)
    assert LEDGER_NAME in list_names(str(home / "out"))


def test_too_many_missing_videos_are_told_before_any_is_read_or_earlier_shards_are_touched(home: Path) -> None:
    out, annotations, told = home / "out", str(home / "annotations.json"), []
    pack(str(home / "videos"), annotations, str(out), ledger=QuarantineLedger(BORNE))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (home / "videos" / "one.mp4").unlink()
    with pytest.raises(QuarantineExceeded, match="2 of 3 videos"):
        pack(str(home / "videos"), annotations, str(out), overwrite=True, watch=lambda done, total: told.append(done))
    assert not told
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_refused_folder_keeps_its_own_ledger(home: Path) -> None:
    out, annotations = home / "out", str(home / "annotations.json")
    pack(str(home / "videos"), annotations, str(out), ledger=QuarantineLedger(BORNE))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (home / "videos" / "one.mp4").write_bytes(b"broken since")
    with pytest.raises(UserError, match="already holds shards"):
        pack(str(home / "videos"), annotations, str(out), ledger=QuarantineLedger(BORNE))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / LEDGER_NAME).unlink()
    with pytest.raises(UserError, match="already holds shards"):
        pack(str(home / "videos"), annotations, str(out), ledger=QuarantineLedger(BORNE))
    assert LEDGER_NAME not in list_names(str(out))


def test_wrong_folders_and_files_are_named(home: Path) -> None:
    annotations = str(home / "annotations.json")
    with pytest.raises(ValueError, match=r"no videos in .*nowhere and its subfolders, or no such folder"):
        pack(str(home / "nowhere"), annotations, str(home / "out"))
    (home / "videos" / "one.avi").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one\.avi and one\.mp4 are both the video 'one', and differ"):
        pack(str(home / "videos"), annotations, str(home / "out"))
    (home / "annotations.json").write_text(json.dumps({"results": {}}))
    with pytest.raises(ValueError, match="ground truth and detections seem to be swapped"):
        pack(str(home / "videos"), annotations, str(home / "out"))


def test_copies_of_a_file_are_one_video(home: Path) -> None:
    (home / "videos" / "running").mkdir()
    (home / "videos" / "running" / "one.mp4").write_bytes((home / "videos" / "one.mp4").read_bytes())
    packed = pack(
        str(home / "videos"), str(home / "annotations.json"), str(home / "out"), ledger=QuarantineLedger(BORNE)
    )
    assert [row.key for row in packed.manifest.rows if row.key == "one"] == ["one"]


def test_videos_are_transcoded_for_training(home: Path) -> None:
    big = np.repeat(np.repeat(numbered(90), 4, axis=1), 4, axis=2)  # [90, 256, 512, 3]
    (home / "videos" / "one.mp4").write_bytes(encode_h264(big, 30))
    (home / "videos" / "v_two.mkv").write_bytes(b"broken")
    ledger = QuarantineLedger(BORNE)
    config = Transcode(fps=10, short_side=64)
    manifest = pack(
        str(home / "videos"), str(home / "annotations.json"), str(home / "out"), transcode=config, ledger=ledger
    ).manifest
    [row] = manifest.rows
    assert (row.fps, row.height, row.width, row.duration_s) == pytest.approx((10, 64, 128, 3.0))
    video = read_range(row.url, row.video_offset, row.video_bytes)
    assert read_numbers(decode_frames(video, np.arange(30) / 10, (64, 128))) == list(range(0, 90, 3))
    assert {entry.key for entry in ledger} == {"gone", "two"}


def packed_keys(home: Path, files: dict[str, bytes], keys: list[str], **entry: object) -> list[str]:
    """The keys of the manifest that a folder of these files and an annotation of these keys become."""
    for name, content in files.items():
        path = home / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    database = {key: {"subset": "train", "annotations": [{"label": "a", "segment": [0, 1]}], **entry} for key in keys}
    (home / "own.json").write_text(json.dumps({"database": database}))
    packed = pack(str(home / "own"), str(home / "own.json"), str(home / "packed"), ledger=QuarantineLedger(BORNE))
    assert read_manifest(str(home / "packed")).digest == packed.manifest.digest
    assert index_shards(str(home / "packed"), QuarantineLedger()).manifest.digest == packed.manifest.digest
    return [row.key for row in packed.manifest.rows]


CLIP = encode_h264(numbered(20), 10)


@pytest.mark.parametrize(
    ("file", "key", "packed"),
    [
        ("a_0.0_40.0.mp4", "a_0.0_40.0", "a_0.0_40.0"),
        ("-x.mp4", "-x", "-x"),
        ("walk/v1.mp4", "walk/v1", "walk/v1"),
        ("walk/v_1.mp4", "1", "1"),
        ("my clip.MP4", "my clip", "my clip"),
        ("e\u0301.mp4", "\u00e9", "\u00e9"),
        ("\u00e9.mp4", "e\u0301", "e\u0301"),
        ("v1.mp4", "v1.mp4", "v1"),
        ("v1.mkv", "v1.mp4", "v1"),
        ("a.mp4", "v_a", "v_a"),
        ("v_a.mp4", "v_a", "v_a"),
        ("100%.mp4", "100%", "100%"),
        ("a%2Eb.mp4", "a%2Eb", "a%2Eb"),
        ("b.m4v", "b", "b"),
        ("b.video", "b", "b"),
        ("b", "b", "b"),
    ],
)
def test_keys_of_every_kind_find_their_file_and_come_back(tmp_path: Path, file: str, key: str, packed: str) -> None:
    assert packed_keys(tmp_path, {file: CLIP}, [key]) == [packed]


@pytest.mark.parametrize(("suffix", "container", "codec"), [
    ("ts", "mpegts", "libx264"), ("mpg", "mpeg", "mpeg2video"), ("webm", "webm", "libvpx"), ("flv", "flv", "libx264"),
    ("bin", "mpegts", "libx264"), ("bin", "mpeg", "mpeg2video"), ("bin", "avi", "libx264"), ("bin", "matroska", "libx264"),
])  # fmt: skip
def test_containers_are_taken_whatever_their_suffix(tmp_path: Path, suffix: str, container: str, codec: str) -> None:
    clip = encode_clip(numbered(50), container=container, codec=codec, time_base=Fraction(1, 25))
    assert packed_keys(tmp_path, {f"a.{suffix}": clip}, ["a"]) == ["a"]
    [row] = read_manifest(str(tmp_path / "packed")).rows
    video = read_range(row.url, row.video_offset, row.video_bytes)
    assert read_numbers(decode_frames(video, np.arange(0, 50, 5) / 25, (64, 128))) == list(range(0, 50, 5))


def test_links_are_followed_and_links_to_nothing_named(tmp_path: Path) -> None:
    (tmp_path / "annex").mkdir()
    (tmp_path / "annex" / "blob").write_bytes(CLIP)
    (tmp_path / "own" / "sub").mkdir(parents=True)
    (tmp_path / "own" / "a.mp4").symlink_to(tmp_path / "annex" / "blob")
    (tmp_path / "own" / "sub" / "up").symlink_to(tmp_path / "own")  # a circle
    (tmp_path / "own" / "gone.mp4").symlink_to(tmp_path / "annex" / "not-fetched")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.mp4").write_bytes(CLIP)
    (tmp_path / "own" / "linked").symlink_to(tmp_path / "more")
    assert packed_keys(tmp_path, {}, ["a", "b", "gone"]) == ["a", "b"]
    assert "gone.mp4 in" in read_bytes(join(str(tmp_path / "packed"), LEDGER_NAME)).decode()
    (tmp_path / "linked").mkdir()
    for path in (tmp_path / "packed").glob("*.tar"):
        (tmp_path / "linked" / path.name).symlink_to(path)
    assert len(index_shards(str(tmp_path / "linked"), QuarantineLedger()).manifest) == 2


def test_what_is_no_video_is_named_with_its_file_and_near_names_are_told(tmp_path: Path) -> None:
    files = {"a.mp4": CLIP, "b.wmv": b"rubbish", "High Jump.mp4": CLIP}
    assert packed_keys(tmp_path, files, ["a", "b", "HighJump"], duration=2.0) == ["a"]
    ledger = read_bytes(join(str(tmp_path / "packed"), LEDGER_NAME)).decode()
    assert "b.wmv: not a readable container" in ledger
    assert "did you mean `High Jump`?" in ledger


def test_what_lies_beside_a_missing_video_is_not_taken_for_it(tmp_path: Path) -> None:
    files = {
        "a.mp4": CLIP,
        "b.jpg": b"its picture",
        "b.srt": b"its words",
        "c.jpg": b"a picture of a video without a file",
    }
    assert packed_keys(tmp_path, files, ["a", "b", "c"]) == ["a"]
    ledger = read_bytes(join(str(tmp_path / "packed"), LEDGER_NAME)).decode()
    assert "only b.jpg and b.srt, of which none says that it is a video" in ledger
    assert "c.jpg: not a readable container" in ledger


def test_hidden_files_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "own" / "sub").mkdir(parents=True)
    for name in ("._a.mp4", "sub/.b.mp4"):
        (tmp_path / "own" / name).write_bytes(b"what macOS leaves on foreign disks")
    assert packed_keys(tmp_path, {"a.mp4": CLIP, "sub/b.mp4": CLIP}, ["a", "b"]) == ["a", "b"]
    packed = pack(str(tmp_path / "own"), str(tmp_path / "own.json"), str(tmp_path / "again"))
    assert packed.strangers == ()


def test_one_bad_entry_loses_only_its_video(tmp_path: Path) -> None:
    packed_keys(tmp_path, {f"{n}.mp4": CLIP for n in range(4)}, ["0", "1", "2", "3"])
    database = json.loads((tmp_path / "own.json").read_text())["database"]
    database["1"]["annotations"][0]["segment"] = [0, 10**400]
    database["2"] = None
    database["3"]["note"] = "\ud800"
    database["\ud800"] = database["0"]
    (tmp_path / "own.json").write_text(json.dumps({"database": database}))
    ledger = QuarantineLedger(BORNE)
    out = str(tmp_path / "again")
    packed = pack(str(tmp_path / "own"), str(tmp_path / "own.json"), out, ledger=ledger)
    assert [row.key for row in packed.manifest.rows] == ["0", "3"]
    assert {entry.key for entry in ledger} == {"1", "2", "\ud800"}


def test_a_spent_budget_says_where_all_reasons_are_and_what_looks_wrong(tmp_path: Path) -> None:
    for n in range(3):
        path = tmp_path / "own" / f"{n}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CLIP)
    entry = {"subset": "train", "annotations": [{"label": "a", "segment": [500, 1900]}]}
    (tmp_path / "own.json").write_text(json.dumps({"database": {str(n): entry for n in range(3)}}))
    with pytest.raises(QuarantineExceeded) as raised:
        pack(str(tmp_path / "own"), str(tmp_path / "own.json"), str(tmp_path / "out"))
    assert LEDGER_NAME in str(raised.value)
    assert "the times look like milliseconds" in str(raised.value)


def test_subsets_are_made_where_the_annotations_have_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no subset for any video: --split"):
        packed_keys(tmp_path, {f"{n}.mp4": CLIP for n in range(4)}, ["0", "1", "2", "3"], subset="")
    out = str(tmp_path / "out")
    packed = pack(str(tmp_path / "own"), str(tmp_path / "own.json"), out, split=(0.5, 0.25, 0.25))
    assert sorted(row.subset for row in packed.manifest.rows) == ["test", "train", "train", "validation"]
    database = json.loads((tmp_path / "own.json").read_text())["database"]
    database["0"]["subset"] = "testing"
    (tmp_path / "own.json").write_text(json.dumps({"database": database}))
    packed = pack(str(tmp_path / "own"), str(tmp_path / "own.json"), out, split=(1.0, 0.0, 0.0), overwrite=True)
    assert [row.subset for row in packed.manifest.rows] == ["test", "train", "train", "train"]
