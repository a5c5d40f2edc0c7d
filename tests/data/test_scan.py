"""Shards of other tools, sound and damaged."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import webdataset

from tadscale.data.decode import probe_video
from tadscale.data.encode import encode_h264
from tadscale.data.index import index_shards
from tadscale.data.lint import lint
from tadscale.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from tadscale.data.members import REST
from tadscale.data.quarantine import QuarantineBudget, QuarantineExceeded, QuarantineLedger
from tadscale.data.scan import Reading
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.storage import join, list_names, read_range, upload, write_bytes
from tests.data.clips import encode_clip, numbered, with_hidden_tail

VIDEOS = [encode_h264(numbered(20, first=20 * n), 10) for n in range(4)]
NOTE = {"subset": "train", "annotations": [{"label": "a", "segment": [0.5, 1.5]}]}
BORNE = QuarantineBudget(max_fraction=1.0)


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A tar as GNU tar would write it."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(content), 1234567, "somebody"
            archive.addfile(info, io.BytesIO(content))
    return path


def note(**changes: object) -> bytes:
    return json.dumps(NOTE | changes).encode()


def sound(n: int, key: str | None = None) -> dict[str, bytes]:
    key = key or f"k{n}"
    return {f"{key}.mp4": VIDEOS[n], f"{key}.json": note()}


def scanned(folder: Path, **arguments: object) -> tuple[dict[str, bytes], dict[str, str]]:
    """Videos by key as the built manifest finds them, and reasons by key."""
    ledger = QuarantineLedger(BORNE)
    manifest = index_shards(str(folder), ledger, Reading(**arguments)).manifest
    videos = {r.key: read_range(r.url, r.video_offset, r.video_bytes, r.video_sha256) for r in manifest.rows}
    return videos, {entry.key: entry.reason for entry in ledger}


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_foreign_shards_get_a_manifest(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = str(tmp_path / "data") if kind == "local" else join(request.getfixturevalue("s3_url"), "data")
    mkv = encode_clip(numbered(20), container="matroska")
    upload(tar(tmp_path / "x", {"./a/k0.JSON": note(), "./a/k0.MP4": VIDEOS[0], **sound(1)}), join(url, "train-0.tar"))
    more = {"k2.mkv": mkv, "k2.flac": b"sound", "k2.json": note(subset="Testing"), "README": b"hello", "k3.txt": b"x"}
    upload(tar(tmp_path / "y", more), join(url, "train-1.tar"))
    write_bytes(join(url, "notes.txt"), b"not a shard")
    ledger = QuarantineLedger()
    built, _, passed_over = index_shards(url, ledger)
    assert len(ledger) == 0
    assert passed_over == {"flac": 1, "": 1, "txt": 1}
    read = read_manifest(url)
    assert read.digest == built.digest
    assert [(r.key, r.shard, r.subset) for r in read.rows] == [
        ("a/k0", "train-0.tar", "train"), ("k1", "train-0.tar", "train"), ("k2", "train-1.tar", "test")
    ]  # fmt: skip
    for row, video in zip(read.rows, [VIDEOS[0], VIDEOS[1], mkv], strict=True):
        assert read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256) == video


def test_scanning_our_own_shards_gives_the_manifest_that_writing_gave(tmp_path: Path) -> None:
    samples = [VideoSample(f"k{n}", VIDEOS[n], NOTE) for n in range(4)]
    written = write_shards(samples, str(tmp_path), videos_per_shard=2)
    assert index_shards(str(tmp_path), QuarantineLedger()).manifest.digest == written.digest


def test_each_bad_member_is_quarantined_for_its_reason_and_the_others_live(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.mp4")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar(tmp_path / "s.tar", {
        **sound(0),
        "rubbish.mp4": b"rubbish" * 99, "rubbish.json": note(),
        "text.mp4": VIDEOS[1], "text.json": b"{not json",
        "list.mp4": VIDEOS[1], "list.json": b"[1]",
        "bomb.mp4": VIDEOS[1], "bomb.json": b"[" * 100_000,
        "bytes.mp4": VIDEOS[1], "bytes.json": b"\xff\xfe\xfd",
        "silent.mp4": VIDEOS[1],
        "alone.json": note(),
        "two.mp4": VIDEOS[1], "two.mkv": VIDEOS[1], "two.json": note(),
        "outside.mp4": VIDEOS[1], "outside.json": note(annotations=[{"label": "a", "segment": [50, 60]}]),
        "../up.mp4": VIDEOS[1], "../up.json": note(),
        "link.mp4": link, "link.json": note(),
        **sound(2),
    })  # fmt: skip
    videos, reasons = scanned(tmp_path)
    assert videos == {"k0": VIDEOS[0], "k2": VIDEOS[2]}
    wanted = {
        "rubbish": "not a readable container", "text": "is not JSON", "list": "unknown form",
        "bomb": "is not JSON", "bytes": "is not JSON",
        "silent": "no annotation: neither", "alone": "an annotation without a video", "two": "a second video",
        "outside": "nothing of it is inside", "../up": "the key", "link": "an annotation without a video",
    }  # fmt: skip
    assert reasons.keys() == wanted.keys()
    assert all(part in reasons[key] for key, part in wanted.items()), reasons
    assert list_names(str(tmp_path)) == [MANIFEST_NAME, "s.tar"]  # nothing was extracted


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, pax: dict[str, str] | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, pax or {}
    return info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


LONG = header("././@LongLink", 10, tarfile.GNUTYPE_LONGNAME) + b"k1.mp4".ljust(512, b"\0")
FORGED = {
    "a chain of 5,000 long-name headers": LONG * 5000,
    "a long name of 2 GB": header("././@LongLink", 2**31 - 1, tarfile.GNUTYPE_LONGNAME) + bytes(3 * 2**20),
    "PAX size below nothing": header("k1.mp4", 512, pax={"size": "-1536"}) + bytes(512),
    "PAX size beyond 64 bit": header("k1.mp4", 512, pax={"size": str(2**70)}) + bytes(512),
    "PAX size that is no number": header("k1.mp4", 512, pax={"size": "many"}) + bytes(512),
    "PAX sparse map without end": header("k1.mp4", 512, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    + b"999999999\n".ljust(512, b"1")
    + b"1\n" * 2**20,
    "PAX records of 2 GB": header("pax", 2**31 - 1, tarfile.XHDTYPE) + bytes(3 * 2**20),
    "3.9 GiB that are not there": header("k1.mp4", 2**31 + 2**30 + 900 * 2**20),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_forged_headers_lose_only_what_follows(tmp_path: Path, forged: bytes) -> None:
    """And take neither memory nor time: what is asked for is bounded by what a header may be and by what is there."""
    whole = tar(tmp_path / "s.tar", sound(0)).read_bytes()
    with tarfile.open(tmp_path / "s.tar") as archive:
        end = archive.getmembers()[-1].offset_data + 512
    (tmp_path / "s.tar").write_bytes(whole[:end] + forged + bytes(2 * tarfile.RECORDSIZE))
    tar(tmp_path / "t.tar", sound(2))
    tracemalloc.start()
    videos, reasons = scanned(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert videos == {"k0": VIDEOS[0], "k2": VIDEOS[2]}
    assert reasons
    assert reasons.keys() <= {"k1", REST}
    assert all(len(reason) < 400 for reason in reasons.values())
    assert peak < 64 * 2**20


def test_absurd_notes_lose_only_their_video(tmp_path: Path) -> None:
    notes = {
        "huge": note(annotations=[{"label": "a", "segment": [0, 10**400]}]),
        "digits": b'{"subset": "train", "annotations": [{"label": "a", "segment": [0, ' + b"9" * 5000 + b"]}]}",
        "half": b'{"subset": "train", "annotations": [{"label": "\\ud800", "segment": [0, 1]}]}',
        "nan": b'{"subset": "train", "annotations": [{"label": "a", "segment": [NaN, 1]}]}',
        "null": b'{"subset": null, "annotations": [null]}',
        "list": note(subset=["train"]),
        "twice": b'{"subset": "train", "subset": "test", "annotations": []}',
    }
    members = dict(sound(0))
    for key, content in notes.items():
        members |= {f"{key}.mp4": VIDEOS[1], f"{key}.json": content}
    path = tar(tmp_path / "s.tar", members | sound(2))
    with tarfile.open(path, "a") as archive:  # two KEY.json
        for name, content in (("dup.mp4", VIDEOS[3]), ("dup.json", note()), ("dup.json", note(subset="test"))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    videos, reasons = scanned(tmp_path)
    assert videos.keys() == {"k0", "k2"}
    assert reasons.keys() == {*notes, "dup"}
    assert "a second member of this name" in reasons["dup"]
    assert "the key 'subset' stands twice" in reasons["twice"]


def test_whatever_a_parser_raises_is_an_entry_and_a_fault_of_the_system_is_not(tmp_path, monkeypatch) -> None:
    tar(tmp_path / "s.tar", sound(0) | sound(1) | sound(2))

    def parse(raised: Exception):
        def probe(video: bytes):
            if video == VIDEOS[1]:
                raise raised
            return probe_video(video)

        monkeypatch.setattr("tadscale.data.scan.probe_video", probe)
        return scanned(tmp_path)

    videos, reasons = parse(ZeroDivisionError("time base"))
    assert videos.keys() == {"k0", "k2"}
    assert reasons == {"k1": "ZeroDivisionError: time base"}
    with pytest.raises(MemoryError):
        parse(MemoryError())


def test_keys_of_any_kind_come_back_from_our_own_shards(tmp_path: Path) -> None:
    keys = ["a_0.0_40.0", "-x", "walk/v1", "my clip", "e\u0301"]
    samples = [VideoSample(key, VIDEOS[n % 4], NOTE) for n, key in enumerate(keys)]
    written = write_shards(samples, str(tmp_path))
    assert index_shards(str(tmp_path), QuarantineLedger()).manifest.digest == written.digest
    assert [row.key for row in read_manifest(str(tmp_path)).rows] == keys
    shard = str(tmp_path / "shard-000000.tar")
    assert len({sample["__key__"] for sample in webdataset.WebDataset(shard, shardshuffle=False)}) == len(keys)


def test_a_shard_that_is_cut_off_keeps_its_beginning(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s.tar", sound(0) | sound(1) | sound(2)).read_bytes()
    with tarfile.open(tmp_path / "s.tar") as archive:
        second, last = archive.getmember("k1.mp4"), archive.getmember("k2.json")
    for cut, kept, lost in (
        (second.offset_data + 100, {"k0"}, {"k1": "the shard ends inside it", REST: "cut off"}),
        (second.offset + 100, {"k0"}, {REST: "probably cut off"}),
        (second.offset, {"k0"}, {REST: "without a tar's end mark"}),
        (last.offset_data + 512, {"k0", "k1", "k2"}, {REST: "without a tar's end mark"}),
    ):
        (tmp_path / "s.tar").write_bytes(whole[:cut])
        videos, reasons = scanned(tmp_path)
        assert videos.keys() == kept
        assert reasons.keys() == lost.keys()
        assert all(part in reasons[key] for key, part in lost.items()), reasons


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    """Python's tarfile stops there without a word."""
    data = bytearray(tar(tmp_path / "s.tar", sound(0) | sound(1) | sound(2)).read_bytes())
    with tarfile.open(tmp_path / "s.tar") as archive:
        at = archive.getmember("k1.mp4").offset
    data[at + 20 : at + 150] = b"\x55" * 130
    (tmp_path / "s.tar").write_bytes(data)
    videos, reasons = scanned(tmp_path)
    assert videos.keys() == {"k0"}
    assert "no tar header there" in reasons[REST]


def test_what_is_no_tar_is_named(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", sound(0))
    with tarfile.open(tmp_path / "b.tar", "w:gz") as archive:
        archive.add(tmp_path / "a.tar", "k1.mp4")
    (tmp_path / "c.tar").write_bytes(b"")
    ledger = QuarantineLedger(BORNE)
    assert len(index_shards(str(tmp_path), ledger).manifest) == 1
    assert [(e.shard, e.key, "not a plain tar" in e.reason) for e in ledger] == [
        ("b.tar", REST, True),
        ("c.tar", REST, True),
    ]
    with pytest.raises(QuarantineExceeded):
        index_shards(str(tmp_path), QuarantineLedger())


def test_annotations_may_lie_apart(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", {"k0.mp4": VIDEOS[0], "k1.mp4": VIDEOS[1]})
    videos, reasons = scanned(tmp_path, annotations={"k0": NOTE})
    assert videos.keys() == {"k0"}
    assert reasons.keys() == {"k1"}


def test_double_keys_unknown_labels_and_empty_folders_are_errors(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", sound(0))
    with pytest.raises(ValueError, match="label 'a' is not in the class list; valid here: b"):
        index_shards(str(tmp_path), QuarantineLedger(), Reading(classes=("b",)))
    tar(tmp_path / "b.tar", sound(1, key="k0"))
    with pytest.raises(ValueError, match=r"'k0' occurs twice, in a\.tar and b\.tar"):
        index_shards(str(tmp_path), QuarantineLedger())
    with pytest.raises(ValueError, match=r"holds no \*\.tar"):
        index_shards(str(tmp_path / "none"), QuarantineLedger())


def test_lint_of_sound_shards_counts_and_finds_nothing(tmp_path: Path) -> None:
    background = NOTE | {"annotations": [], "subset": "test"}
    write_shards([VideoSample("k0", VIDEOS[0], NOTE), VideoSample("k1", VIDEOS[1], background)], str(tmp_path))
    before = list_names(str(tmp_path))
    report = lint(str(tmp_path), decode_all=True)
    assert report.ok
    assert report.videos == {"train": 1, "test": 1}
    assert report.background == 1
    assert report.segments == {"a": 1}
    assert report.hours == pytest.approx(4 / 3600)
    assert "2 usable videos (test 1, train 1), 0.00 h, 1 without any segment" in str(report)
    assert list_names(str(tmp_path)) == before


def test_lint_names_everything_at_once(tmp_path: Path) -> None:
    late = note(annotations=[{"label": "walk", "segment": [1, 9]}])
    tar(tmp_path / "a.tar", sound(0) | {"bad.mp4": b"x" * 999, "bad.json": note()})
    tar(tmp_path / "b.tar", sound(1, key="k0") | {"k2.mp4": VIDEOS[2], "k2.json": late})
    report = lint(str(tmp_path), Reading(classes=("a", "walks")))
    assert not report.ok
    assert [entry.key for entry in report.bad] == ["bad"]
    assert [repair.key for repair in report.repairs] == ["k2"]
    assert any("'k0' occurs twice" in error for error in report.errors)
    assert any("'walk' is not in the class list; did you mean `walks`" in error for error in report.errors)
    text = str(report)
    assert all(word in text for word in ("mended: k2", "bad: a.tar: bad", "error: key 'k0'"))


def test_lint_compares_shards_and_manifest(tmp_path: Path) -> None:
    samples = [VideoSample(f"k{n}", VIDEOS[n], NOTE) for n in range(3)]
    manifest = write_shards(samples, str(tmp_path))
    tar(tmp_path / "shard-000000.tar", sound(0) | sound(2, key="k1") | sound(3))
    errors = lint(str(tmp_path)).errors
    assert len(errors) == 3
    assert any("k1: " in e and "video_sha256" in e for e in errors)
    assert any(e.startswith("k2: in the manifest, but not usable") for e in errors)
    assert any(e.startswith("k3: in shard-000000.tar, but not in the manifest") for e in errors)
    write_manifest(manifest)
    (tmp_path / MANIFEST_NAME).write_bytes(b"broken")
    assert "not a readable Parquet" in lint(str(tmp_path)).errors[0]


def test_only_decoding_everything_finds_damage_inside_a_video(tmp_path: Path) -> None:
    video = bytearray(encode_h264(numbered(60, first=0), 10, crf=1))
    at = video.index(b"mdat") + len(video) // 2
    video[at : at + 200] = bytes(200)
    tar(tmp_path / "s.tar", {"k.mp4": bytes(video), "k.json": note()})
    assert lint(str(tmp_path)).ok
    assert "damaged behind" in lint(str(tmp_path), decode_all=True).bad[0].reason


def test_decoding_finds_what_training_would_and_nothing_else_does(tmp_path: Path) -> None:
    """Sound pictures, all of them, and a length that they do not fill: training asks for a picture at 5.6 s."""
    tar(tmp_path / "s.tar", {"k.mkv": with_hidden_tail(numbered(60), 10), "k.json": note()})
    assert lint(str(tmp_path)).ok
    assert "the last one ends at 5.5" in lint(str(tmp_path), decode_all=True).bad[0].reason


def test_decoding_marks_where_a_recording_stands_still(tmp_path: Path) -> None:
    stalls = encode_clip(numbered(40), times=[*range(35), *range(65, 70)], b_frames=2)
    tar(tmp_path / "s.tar", sound(0) | {"k.mp4": stalls, "k.json": note()})
    report = lint(str(tmp_path), decode_all=True)
    assert report.ok
    assert [(span.key, "from 3.4 s to 6.5 s" in span.what) for span in report.still] == [("k", True)]
    assert "still: k: one picture stands" in str(report)
