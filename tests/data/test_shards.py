"""Shards are plain WebDataset tars, written the same each time, and found by one ranged read."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tadscale.data import shards as shards_module
from tadscale.data.encode import encode_h264
from tadscale.data.manifest import MANIFEST_NAME, read_manifest
from tadscale.data.quarantine import QuarantineBudget, QuarantineExceeded, QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.storage import join, list_names, read_range
from tests.data.clips import encode_clip, numbered


def sample(index: int, **changes: object) -> VideoSample:
    video = encode_h264(numbered(10 + index, first=index * 10), 10)
    note = {"duration": 1 + index / 10, "subset": "train", "annotations": [{"label": "a", "segment": [0.2, 0.8]}]}
    return VideoSample(**({"key": f"v{index:02d}", "video": video, "annotation": note} | changes))


SAMPLES = [sample(index) for index in range(7)]
BAD = sample(8, video=b"not a video")


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "data") if request.param == "local" else join(request.getfixturevalue("s3_url"), "data")


def test_every_video_is_one_verified_ranged_read(url: str) -> None:
    manifest = write_shards(SAMPLES, url, videos_per_shard=3)
    assert list_names(url) == [MANIFEST_NAME, *(f"shard-{n:06d}.tar" for n in range(3))]
    for row, wanted in zip(read_manifest(url).rows, SAMPLES, strict=True):
        assert row.key == wanted.key
        assert read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256) == wanted.video
    assert read_manifest(url).digest == manifest.digest


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    odd = [sample(1, key="folder/x"), sample(2, key="日本" * 40), sample(3, key="k" * 150, suffix="mkv")]
    write_shards([*SAMPLES, *odd], str(tmp_path), videos_per_shard=4)
    files = [str(tmp_path / f"shard-{n:06d}.tar") for n in range(3)]
    read = list(webdataset.WebDataset(files, shardshuffle=False, empty_check=False))
    assert [some["__key__"] for some in read] == [some.key for some in [*SAMPLES, *odd]]
    for some, wanted in zip(read, [*SAMPLES, *odd], strict=True):
        assert some[wanted.suffix] == wanted.video
        assert json.loads(some["json"]) == wanted.annotation


def test_tar_tools_find_nothing_to_complain_about(tmp_path: Path) -> None:
    write_shards(SAMPLES, str(tmp_path))
    with tarfile.open(tmp_path / "shard-000000.tar", errorlevel=2) as tar:
        members = tar.getmembers()
    assert [m.name for m in members[:4]] == ["v00.mp4", "v00.json", "v01.mp4", "v01.json"]
    assert all(m.isreg() and m.mtime == 0 and m.uid == 0 and not m.uname and m.mode == 0o644 for m in members)


def test_same_samples_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shards(SAMPLES, str(tmp_path / name), videos_per_shard=3)
    for name in list_names(str(tmp_path / "a")):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_resharding_keeps_the_digest(tmp_path: Path) -> None:
    digests = {write_shards(SAMPLES, str(tmp_path / f"{n}"), videos_per_shard=n).digest for n in (1, 3, 100)}
    assert len(digests) == 1


def test_a_shard_is_closed_before_it_grows_beyond_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 16 * 1024
    monkeypatch.setattr(shards_module, "SHARD_BYTES", largest)
    write_shards(SAMPLES, str(tmp_path / "a"))
    tars = [p for p in (tmp_path / "a").iterdir() if p.suffix == ".tar"]
    assert 2 <= len(tars) < len(SAMPLES)
    assert all(p.stat().st_size <= largest for p in tars)
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 1)
    write_shards(SAMPLES, str(tmp_path / "b"))
    assert len(list_names(str(tmp_path / "b"))) == len(SAMPLES) + 1  # each alone, none refused


def test_samples_are_written_as_they_come(tmp_path: Path) -> None:
    """Shards are uploaded while later samples have not been made yet; the manifest is the last thing to appear."""
    seen: list[int] = []

    def stream() -> Iterator[VideoSample]:
        for index in range(6):
            seen.append(len(list_names(str(tmp_path))))
            yield SAMPLES[index]

    write_shards(stream(), str(tmp_path), videos_per_shard=2)
    assert seen == [0, 0, 0, 1, 1, 2]  # and so never a manifest before the end


def test_an_interrupted_write_leaves_no_manifest_and_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def stream() -> Iterator[VideoSample]:
        yield from SAMPLES[:5]
        raise RuntimeError("the generator failed")

    url = str(tmp_path / "data")
    with pytest.raises(RuntimeError, match="the generator failed"):
        write_shards(stream(), url, videos_per_shard=2)
    assert list_names(url) == ["shard-000000.tar", "shard-000001.tar"]
    assert list(scratch.iterdir()) == []
    with pytest.raises(ValueError, match="without a manifest, of another tool or of an interrupted write"):
        write_shards(SAMPLES, url)
    write_shards(SAMPLES, url, videos_per_shard=100, overwrite=True)
    assert list_names(url) == [MANIFEST_NAME, "shard-000000.tar"]  # no left-over shard


def test_shards_are_not_overwritten_by_accident(url: str) -> None:
    write_shards(SAMPLES[:2], url)
    with pytest.raises(ValueError, match=r"already holds shards.*--overwrite"):
        write_shards(SAMPLES, url)
    assert len(read_manifest(url)) == 2
    assert len(write_shards(SAMPLES, url, overwrite=True)) == 7
    assert len(read_manifest(url)) == 7


def test_the_manifest_goes_first_when_shards_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(SAMPLES[:4], str(tmp_path), videos_per_shard=1)
    removed: list[str] = []
    real = shards_module.remove
    monkeypatch.setattr(shards_module, "remove", lambda url: (removed.append(url.rsplit("/")[-1]), real(url))[1])
    write_shards(SAMPLES, str(tmp_path), overwrite=True)
    assert removed[0] == MANIFEST_NAME
    assert len(removed) == 5


def test_unusable_videos_are_errors_or_go_to_the_ledger(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="video 'v08': not a readable container"):
        write_shards([*SAMPLES, BAD], str(tmp_path / "a"))
    ledger = QuarantineLedger()
    manifest = write_shards([SAMPLES[0], BAD, *SAMPLES[1:]], str(tmp_path / "b"), ledger=ledger)
    assert [row.key for row in manifest.rows] == [some.key for some in SAMPLES]
    assert [(e.key, e.stage) for e in ledger] == [("v08", "pack")]
    with pytest.raises(QuarantineExceeded, match="1 of 8 videos"):
        write_shards([*SAMPLES, BAD], str(tmp_path / "c"), ledger=QuarantineLedger(QuarantineBudget(max_fraction=0)))
    assert MANIFEST_NAME not in list_names(str(tmp_path / "c"))


def test_other_suffixes_and_double_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix 'exe' is none of"):
        write_shards([sample(0, suffix="exe")], str(tmp_path / "a"))
    with pytest.raises(ValueError, match="'v00' occurs twice"):
        write_shards([SAMPLES[0], SAMPLES[0]], str(tmp_path / "b"), ledger=QuarantineLedger())


def test_other_containers_are_kept_as_they_are(tmp_path: Path) -> None:
    video = encode_clip(numbered(20), container="matroska")
    row = write_shards([sample(0, video=video, suffix="mkv")], str(tmp_path)).row(0)
    assert row.video_sha256 == hashlib.sha256(video).hexdigest()
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        assert tar.getnames() == ["v00.mkv", "v00.json"]
