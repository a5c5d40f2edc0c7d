"""One's own videos into shards: from a folder and an annotation file to windows."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.decode import decode_frames, probe_video
from tadscale.data.encode import encode_h264
from tadscale.data.manifest import read_manifest
from tadscale.data.pack import LEDGER_NAME, Transcode, pack, transcode_video
from tadscale.data.quarantine import DataError, QuarantineBudget, QuarantineExceeded, QuarantineLedger
from tadscale.data.storage import join, list_names, read_bytes, read_range, upload
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


def test_a_folder_and_its_annotations_become_shards(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = QuarantineLedger(BORNE)
    with caplog.at_level(logging.WARNING):
        packed = pack(str(home / "videos"), str(home / "annotations.json"), str(home / "out"), ledger=ledger)
    manifest = read_manifest(str(home / "out"))
    assert manifest.digest == packed.digest
    assert [(row.key, row.subset, row.labels) for row in manifest.rows] == [
        ("one", "train", ("a",)),
        ("two", "train", ("a",)),
    ]
    row = manifest.row(1)
    assert read_range(row.url, row.video_offset, row.video_bytes) == (home / "videos" / "v_two.mkv").read_bytes()
    assert [entry.key for entry in ledger] == ["gone"]
    assert json.loads(read_bytes(join(str(home / "out"), LEDGER_NAME)))["key"] == "gone"
    assert "1 videos are left out" in caplog.text


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


def test_wrong_folders_and_files_are_named(home: Path) -> None:
    annotations = str(home / "annotations.json")
    with pytest.raises(ValueError, match="none of the 0 videos"):
        pack(str(home), annotations, str(home / "out"))
    (home / "videos" / "one.avi").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one\.avi and one\.mp4 are both the video 'one'"):
        pack(str(home / "videos"), annotations, str(home / "out"))
    (home / "annotations.json").write_text(json.dumps({"results": {}}))
    with pytest.raises(ValueError, match="ground truth and detections seem to be swapped"):
        pack(str(home / "videos"), annotations, str(home / "out"))


def test_videos_are_transcoded_for_training(home: Path) -> None:
    big = np.repeat(np.repeat(numbered(90), 4, axis=1), 4, axis=2)  # [90, 256, 512, 3]
    (home / "videos" / "one.mp4").write_bytes(encode_h264(big, 30))
    (home / "videos" / "v_two.mkv").write_bytes(b"broken")
    ledger = QuarantineLedger(BORNE)
    config = Transcode(fps=10, short_side=64)
    manifest = pack(
        str(home / "videos"), str(home / "annotations.json"), str(home / "out"), transcode=config, ledger=ledger
    )
    [row] = manifest.rows
    assert (row.fps, row.height, row.width, row.duration_s) == pytest.approx((10, 64, 128, 3.0))
    video = read_range(row.url, row.video_offset, row.video_bytes)
    assert read_numbers(decode_frames(video, np.arange(30) / 10, (64, 128))) == list(range(0, 90, 3))
    assert {entry.key for entry in ledger} == {"gone", "two"}


def test_transcoding_keeps_the_time_axis_of_long_and_odd_videos() -> None:
    times = [0, 3, 4, 9, *range(20, 320)]  # variable rate; longer than a chunk
    video = encode_clip(numbered(len(times), 62, 128), times=times, container="matroska")
    small = transcode_video(video, Transcode(fps=10, short_side=31))
    info = probe_video(small)
    assert (info.frames, info.height, info.width) == (320, 32, 64)
    asked_s = np.array([0.0, 0.2, 0.3, 0.8, 0.9, 1.9, 2.0, 25.0, 31.9])
    sizes = (62, 128)
    assert read_numbers(decode_frames(small, asked_s, sizes)) == read_numbers(decode_frames(video, asked_s, sizes))


def test_a_damaged_video_is_not_transcoded() -> None:
    video = bytearray(encode_h264(np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), np.uint8), 10))
    middle = len(video) // 2
    video[middle : middle + 5000] = bytes(5000)  # the length fields of several pictures
    with pytest.raises(DataError, match="damaged behind"):
        transcode_video(bytes(video), Transcode())
